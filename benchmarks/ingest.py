"""Usage events: from being sent to being committed, with verdicts and touched days."""

import csv
import datetime as dt
import hashlib
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.orm import Session

from benchmarks import rounds, servers
from benchmarks.report import Measure
from benchmarks.rounds import Way
from benchmarks.servers import Stage
from models import database
from models.usage import UsageEvent
from tasks.queues import Queue
from tasks.usage import record_usage
from worker.imports import column_names, recording
from worker.imports import counting as imports_tally
from worker.imports import run as imports

JOB = "ingest"

PROCESSES = 2

TENANTS = 50
METRICS = ("input_tokens", "output_tokens", "requests", "storage")

AMOUNTS = {1: 600, 100: 10_000, 1_000: 40_000}
"""Events sent for each size of a message."""

IN_PROCESS = 40_000
ORM = 600

FILLED = ("usage_events", "usage_touched_days")
"""Tables emptied before each turn; the tenants stay, as they would."""

IMPORT = "import of a CSV file"
COPY = "COPY, preformatted"
JSONB = "jsonb_to_recordset, 1,000 a statement"
ADD = "ORM add + commit per event"

AIM = 0.60
"""Of 1,000 events a message, and of an import, beside JSONB."""

COLUMNS = "id, tenant_id, metric, idempotency_key, amount, at, received_at, metadata"

INSERT = """
    INSERT INTO {table} ({columns})
    SELECT usage_event_id(tenant_id, metric, idempotency_key), tenant_id, metric, idempotency_key,
           amount, at, now(), metadata
    FROM jsonb_to_recordset(%s::jsonb) AS event(
        tenant_id text, metric text, idempotency_key text, amount numeric, at timestamptz,
        metadata jsonb)
"""

Event = dict[str, Any]


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Send events through one worker of two processes, and beside it do less and less."""
    made = make(rounds.scaled(max(*AMOUNTS.values(), IN_PROCESS), scale, least=5_000))
    table = stage.copy_of("usage_events")
    sent: dict[str, Way] = {
        f"{size:,} a message": _sending(stage, made[: rounds.scaled(amount, scale)], size)
        for size, amount in AMOUNTS.items()
    }
    called: dict[str, Way] = {
        f"in process, {size:,} a call": _calling(stage, made, size) for size in (1_000, 5_000)
    }
    called[IMPORT] = importing(stage, made)
    floors: dict[str, Way] = {
        COPY: _copying(stage, table, made),
        JSONB: _inserting(stage, table, made),
        ADD: _adding(stage, made[: rounds.scaled(ORM, scale)]),
    }
    with stage.worker(Queue.usage, concurrency=PROCESSES):
        _warm_up(stage)
        rates = rounds.play("events/s", {**sent, **called, **floors})
    aims = {("1,000 a message", JSONB): AIM, (IMPORT, JSONB): AIM}
    return [
        rates.beside(name, floor, job=JOB, aim=aims.get((name, floor)))
        for name in (*sent, *called)
        for floor in floors
    ]


def make(count: int) -> list[Event]:
    """Make up events of one day: a buffered producer's, for tenants and metrics at random."""
    chance = random.Random(1)
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = midnight - dt.timedelta(days=1)
    return [
        {
            "tenant_id": f"tenant-{chance.randrange(TENANTS)}",
            "metric": chance.choice(METRICS),
            "amount": str(chance.randrange(1, 5_000)),
            "at": (yesterday + dt.timedelta(seconds=chance.randrange(86_400))).isoformat(),
            "idempotency_key": f"request-{number:012}",
            "metadata": {"model": "atlas-mini"},
        }
        for number in range(count)
    ]


def chunks(events: Sequence[Event], size: int) -> Iterator[list[Event]]:
    """Cut events into messages."""
    rest = iter(events)
    while chunk := list(islice(rest, size)):
        yield chunk


def _sending(stage: Stage, events: Sequence[Event], size: int) -> Way:
    def way() -> float:
        stage.empty(*FILLED)
        return rounds.rate(len(events), lambda: _send_and_wait(stage, events, size))

    return way


def _send_and_wait(stage: Stage, events: Sequence[Event], size: int) -> None:
    for chunk in chunks(events, size):
        record_usage.apply_async(kwargs=chunk[0] if size == 1 else {"events": chunk})
    servers.wait_until(lambda: _is_committed(stage, len(events)))


def _is_committed(stage: Stage, count: int) -> bool:
    # Counting rows all the time would take part in what is measured: ask the broker first. Until
    # its task has ended a message is in one of the two, or for a moment on its way between them.
    if stage.redis.llen(Queue.usage) or stage.redis.hlen("unacked"):
        return False
    return bool(stage.value("SELECT count(*) FROM usage_events") == count)


def _warm_up(stage: Stage) -> None:
    """Let each process of the pool make its connection."""
    events = make(PROCESSES * 10)
    _send_and_wait(stage, events, 1)


def _calling(stage: Stage, events: Sequence[Event], size: int) -> Way:
    def call() -> None:
        for chunk in chunks(events, size):
            record_usage(events=chunk)  # type: ignore[arg-type]

    def way() -> float:
        stage.empty(*FILLED)
        return rounds.rate(len(events), call)

    return way


def importing(stage: Stage, events: Sequence[Event]) -> Way:
    """What `billing usage import` does once it has started."""
    file = stage.folder / "usage.csv"
    with file.open("w", newline="") as writing:
        table = csv.writer(writing)
        table.writerow(["tenant_id", "metric", "amount", "at", "key", "model"])
        for event in events:
            names = ("tenant_id", "metric", "amount", "at", "idempotency_key")
            table.writerow([*(event[name] for name in names), event["metadata"]["model"]])
    options = imports.Options(
        column_names.Columns(
            metric="metric", amount="amount", at="at", key=["key"], metadata=["model"]
        )
    )

    def bring_in() -> None:
        imports.run(
            [str(file)],
            options,
            imports_tally.Tally(),
            recording=recording.storing(),
            watch=lambda _: None,
        )

    def way() -> float:
        stage.empty(*FILLED)
        return rounds.rate(len(events), bring_in)

    return way


def _copying(stage: Stage, table: str, events: Sequence[Event]) -> Way:
    now = dt.datetime.now(dt.UTC).isoformat()
    rows = "".join(_row(event, now) for event in events)

    def copy() -> None:
        with stage.connection.cursor().copy(f"COPY {table} ({COLUMNS}) FROM STDIN") as copying:
            copying.write(rows)

    def way() -> float:
        stage.empty(table)
        return rounds.rate(len(events), copy)

    return way


def _row(event: Event, now: str) -> str:
    values = (
        event_id(event),
        event["tenant_id"],
        event["metric"],
        event["idempotency_key"],
        event["amount"],
        event["at"],
        now,
        orjson.dumps(event["metadata"]).decode(),
    )
    return "\t".join(map(str, values)) + "\n"


def event_id(event: Event) -> UUID:
    """Return what `usage_event_id` does."""
    names = ("tenant_id", "metric", "idempotency_key")
    identity = chr(31).join(event[name] for name in names).encode()
    return UUID(bytes=hashlib.sha256(identity).digest()[:16])


def _inserting(stage: Stage, table: str, events: Sequence[Event]) -> Way:
    statement = INSERT.format(table=table, columns=COLUMNS).encode()

    def insert() -> None:
        for chunk in chunks(events, 1_000):
            stage.connection.execute(statement, (orjson.dumps(chunk).decode(),))

    def way() -> float:
        stage.empty(table)
        return rounds.rate(len(events), insert)

    return way


def _adding(stage: Stage, events: Sequence[Event]) -> Way:
    def add() -> None:
        for event in events:
            with Session(database.engine()) as session:
                session.add(_mapped(event))
                session.commit()

    def way() -> float:
        stage.empty(*FILLED)
        return rounds.rate(len(events), add)

    return way


def _mapped(event: Event) -> UsageEvent:
    values = {name: value for name, value in event.items() if name not in {"at", "metadata"}}
    return UsageEvent(
        **values,
        id=event_id(event),
        at=dt.datetime.fromisoformat(event["at"]),
        received_at=dt.datetime.now(dt.UTC),
        details=event["metadata"],
    )

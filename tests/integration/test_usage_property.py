"""Whatever the order, repetition, chunks and threads: totals are the sums of distinct events."""

import datetime as dt
import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from queue import Empty, SimpleQueue
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models import database
from models.rules import period
from tasks.aggregation import aggregate_usage
from tasks.tenants import set_tenant
from tasks.usage import record_usage

BERLIN = ZoneInfo("Europe/Berlin")
AS_OF = dt.datetime(2026, 4, 2, tzinfo=dt.UTC)
KEYS = range(24)
_examples = itertools.count()


def event(tenant_id: str, key: int) -> dict[str, Any]:
    """The one event of a key, near the short day of spring 2026."""
    at = dt.datetime(2026, 3, 28, 20, tzinfo=dt.UTC) + key * dt.timedelta(hours=2, minutes=30)
    return {
        "tenant_id": tenant_id,
        "metric": ("api", "storage")[key % 2],
        "amount": f"{key}.{key:02d}",
        "idempotency_key": f"k{key}",
        "at": at.isoformat(),
    }


chunks = st.lists(st.lists(st.sampled_from(KEYS), min_size=1, max_size=12), min_size=1, max_size=12)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=chunks)
def test_totals_are_the_sums_of_the_distinct_events(db: Engine, chunks: list[list[int]]) -> None:
    tenant_id = f"t{next(_examples)}"
    set_tenant(tenant_id=tenant_id, timezone=BERLIN.key)

    verdicts = _ingest_while_counting(tenant_id, chunks)
    aggregate_usage(as_of=AS_OF)

    distinct = {key for chunk in chunks for key in chunk}
    sent = sum(len(chunk) for chunk in chunks)
    assert verdicts == Counter(accepted=len(distinct), duplicate=sent - len(distinct))
    expected = _sums(tenant_id, distinct)
    assert _stored(tenant_id) == expected
    announced = _announced(tenant_id)
    assert {day: history[-1][1] for day, history in announced.items()} == expected
    for history in announced.values():
        assert [sequence for sequence, _ in history] == list(range(1, len(history) + 1))


def _ingest_while_counting(tenant_id: str, chunks: Sequence[Sequence[int]]) -> Counter[str]:
    waiting: SimpleQueue[Sequence[int]] = SimpleQueue()
    for chunk in chunks:
        waiting.put(chunk)
    done = threading.Event()

    def ingest() -> Counter[str]:
        verdicts: Counter[str] = Counter()
        while True:
            try:
                chunk = waiting.get_nowait()
            except Empty:
                return verdicts
            events: Any = [event(tenant_id, key) for key in chunk]
            verdicts.update(record_usage(events=events, as_of=AS_OF)["verdicts"])

    def count() -> None:
        while not done.is_set():
            aggregate_usage(as_of=AS_OF)

    with ThreadPoolExecutor(5) as pool:
        counters = [pool.submit(count) for _ in range(2)]
        ingesters = [pool.submit(ingest) for _ in range(3)]
        try:
            verdicts = sum((each.result() for each in ingesters), Counter[str]())
        finally:
            done.set()
        for counter in counters:
            counter.result()
    return verdicts


Day = tuple[str, dt.datetime]


def _sums(tenant_id: str, keys: set[int]) -> dict[Day, Decimal]:
    sums: dict[Day, Decimal] = defaultdict(Decimal)
    for each in (event(tenant_id, key) for key in keys):
        day = period.local_day(dt.datetime.fromisoformat(each["at"]), BERLIN)
        sums[each["metric"], period.local_midnight(day, BERLIN)] += Decimal(each["amount"])
    return dict(sums)


def _stored(tenant_id: str) -> dict[Day, Decimal]:
    with database.transaction() as session:
        found = session.execute(
            text("""
                SELECT metric, period_start, total FROM usage_aggregates
                WHERE tenant_id = :id AND granularity = 'day'
            """),
            {"id": tenant_id},
        )
        return {(row.metric, row.period_start): row.total for row in found}


def _announced(tenant_id: str) -> dict[Day, list[tuple[int, Decimal]]]:
    """Sequence and total of each event of a day, by sequence."""
    with database.transaction() as session:
        bodies = session.execute(
            text("SELECT body FROM outbox_messages WHERE tenant_id = :id"), {"id": tenant_id}
        ).scalars()
        events = [orjson.loads(body) for body in bodies]
    histories: dict[Day, list[tuple[int, Decimal]]] = defaultdict(list)
    for each in sorted(events, key=lambda each: int(each["sequence"])):
        data = each["data"]
        day = (data["metric"], dt.datetime.fromisoformat(data["day_start"]))
        histories[day].append((each["sequence"], Decimal(data["total"])))
    return dict(histories)

"""Whatever the order, repetition, chunks, threads and voids: totals are what the events come to."""

import datetime as dt
import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from queue import Empty, SimpleQueue
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models import database
from models.rules import period
from models.rules.period import Period
from models.store import locked_days, metering, metering_alike
from models.store.metering import Window
from models.store.metering_alike import Windows
from models.store.usage_void import UnknownUsage
from tasks import aggregation
from tasks.aggregation import aggregate_usage
from tasks.meters import set_meter
from tasks.recount import recount_usage
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tasks.usage_voids import void_usage

BERLIN = ZoneInfo("Europe/Berlin")
AS_OF = dt.datetime(2026, 4, 2, tzinfo=dt.UTC)
METRICS = ("sum", "count", "max", "unique_count", "latest")
KEYS = range(40)
VOIDABLE = range(0, 40, 3)
_examples = itertools.count()

Day = tuple[str, dt.datetime]
Event = dict[str, Any]


def event(tenant_id: str, key: int) -> Event:
    """The one event of a key, near the short day and the end of March 2026; some correct others."""
    at = dt.datetime(2026, 3, 28, 20, tzinfo=dt.UTC) + (key // 5) * dt.timedelta(hours=11)
    return {
        "tenant_id": tenant_id,
        "metric": METRICS[key % 5],
        "amount": f"{(key * 7) % 11 - 3}.{key % 4}5",
        "idempotency_key": f"k{key}",
        "at": at.isoformat(),
    }


chunks = st.lists(st.lists(st.sampled_from(KEYS), min_size=1, max_size=12), min_size=1, max_size=12)
ways = st.tuples(st.sampled_from((0, 2, 2_000)), st.sampled_from((0.0, 20.0)))
voids = st.sets(st.sampled_from(VOIDABLE), max_size=6)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=chunks, voids=voids, way=ways)
def test_totals_are_what_the_distinct_events_come_to(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    chunks: list[list[int]],
    voids: set[int],
    way: tuple[int, float],
) -> None:
    """Days are counted by their events or by quarter hours, in one go or a piece at a time."""
    full, seconds = way
    monkeypatch.setattr(locked_days, "FULL", full)
    monkeypatch.setattr(aggregation, "CHUNK_BUDGET", seconds)
    tenant_id = f"t{next(_examples)}"
    set_tenant(tenant_id=tenant_id, timezone=BERLIN.key)
    for metric in METRICS:
        set_meter(metric=metric, aggregation=metric, allow_corrections=True)

    verdicts, voided = _ingest_while_counting(tenant_id, chunks, voids)
    aggregate_usage(as_of=AS_OF)

    distinct = {key for chunk in chunks for key in chunk}
    sent = sum(len(chunk) for chunk in chunks)
    assert verdicts == Counter(accepted=len(distinct), duplicate=sent - len(distinct))
    counting = [event(tenant_id, key) for key in distinct - voided]
    days = _expected(counting, _day)
    assert _without_empty(_stored(tenant_id, "day")) == days
    assert _without_empty(_stored(tenant_id, "month")) == _expected(counting, _month)
    _check_announced(tenant_id)
    _check_quantities(tenant_id, counting)
    assert recount_usage(as_of=AS_OF)["drifted"] == 0


def _ingest_while_counting(
    tenant_id: str, chunks: Sequence[Sequence[int]], voids: Collection[int]
) -> tuple[Counter[str], set[int]]:
    """Send chunks, void what has arrived and roll up, all at once."""
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

    def void() -> set[int]:
        return {key for key in voids if _is_voided(tenant_id, key)}

    def count() -> None:
        while not done.is_set():
            aggregate_usage(as_of=AS_OF)

    with ThreadPoolExecutor(6) as pool:
        counters = [pool.submit(count) for _ in range(2)]
        ingesters = [pool.submit(ingest) for _ in range(3)]
        voider = pool.submit(void)
        try:
            verdicts = sum((each.result() for each in ingesters), Counter[str]())
            voided = voider.result() | void()
        finally:
            done.set()
        for counter in counters:
            counter.result()
    return verdicts, voided


def _is_voided(tenant_id: str, key: int) -> bool:
    named = {name: event(tenant_id, key)[name] for name in ("metric", "idempotency_key")}
    try:
        void_usage(tenant_id=tenant_id, **named, reason="test", as_of=AS_OF)
    except UnknownUsage:
        return False
    return True


def _day(at: dt.datetime) -> dt.datetime:
    return period.local_midnight(period.local_day(at, BERLIN), BERLIN)


def _month(at: dt.datetime) -> dt.datetime:
    return period.local_midnight(period.local_day(at, BERLIN).replace(day=1), BERLIN)


def _expected(
    events: Sequence[Event], start: Callable[[dt.datetime], dt.datetime]
) -> dict[Day, tuple[Decimal, int]]:
    """Total and count of each period with events, by plain arithmetic."""
    periods: dict[Day, list[Event]] = defaultdict(list)
    for each in events:
        periods[each["metric"], start(dt.datetime.fromisoformat(each["at"]))].append(each)
    return {key: (_total(key[0], found), len(found)) for key, found in periods.items()}


def _total(metric: str, events: Sequence[Event]) -> Decimal:
    amounts = [Decimal(each["amount"]) for each in sorted(events, key=lambda each: each["at"])]
    totals: dict[str, Callable[[], Decimal]] = {
        "sum": lambda: sum(amounts, Decimal(0)),
        "count": lambda: Decimal(len(amounts)),
        "max": lambda: max(amounts),
        "unique_count": lambda: Decimal(len(set(amounts))),
        "latest": lambda: amounts[-1],
    }
    return totals[metric]() if amounts else Decimal(0)


def _without_empty(found: dict[Day, tuple[Decimal, int]]) -> dict[Day, tuple[Decimal, int]]:
    """A day whose only event was voided keeps its row, with nothing in it."""
    assert all(total == 0 for total, count in found.values() if not count)
    return {key: value for key, value in found.items() if value[1]}


def _stored(tenant_id: str, granularity: str) -> dict[Day, tuple[Decimal, int]]:
    with database.transaction() as session:
        found = session.execute(
            text("""
                SELECT metric, period_start, total, event_count FROM usage_aggregates
                WHERE tenant_id = :id AND granularity = :granularity
            """),
            {"id": tenant_id, "granularity": granularity},
        )
        return {(row.metric, row.period_start): (row.total, row.event_count) for row in found}


def _check_quantities(tenant_id: str, events: Sequence[Event]) -> None:
    """Two whole days, and a stretch that cuts days, come to what their events come to."""
    stretches = [
        Period(_day(AS_OF - dt.timedelta(days=4)), _day(AS_OF - dt.timedelta(days=2))),
        Period(AS_OF - dt.timedelta(days=4, hours=7), AS_OF - dt.timedelta(days=1, hours=5)),
    ]
    windows = [Window(tenant_id, metric, each) for metric in METRICS for each in stretches]
    with database.transaction() as session:
        found = metering.quantities(session, windows)
        columns = metering_alike.quantities(
            session,
            [Windows([tenant_id, "nobody"], one.metric, one.period) for one in windows],
        )
    assert columns == [[total, 0] for total in found]
    assert found == [
        _total(
            window.metric,
            [
                each
                for each in events
                if each["metric"] == window.metric
                and window.period.contains(dt.datetime.fromisoformat(each["at"]))
            ],
        )
        for window in windows
    ]


def _check_announced(tenant_id: str) -> None:
    """Each day's events count up, never say the same twice in a row, and end with its total."""
    with database.transaction() as session:
        bodies = session.execute(
            text("SELECT body FROM outbox_messages WHERE tenant_id = :id"), {"id": tenant_id}
        ).scalars()
        said = [orjson.loads(body) for body in bodies]
    histories: dict[Day, list[tuple[int, Decimal]]] = defaultdict(list)
    for each in sorted(said, key=lambda each: int(each["sequence"])):
        data = each["data"]
        day = (data["metric"], dt.datetime.fromisoformat(data["day_start"]))
        histories[day].append((each["sequence"], Decimal(data["total"])))
    stored = _stored(tenant_id, "day")
    for day, history in histories.items():
        assert history[-1][1] == stored[day][0]
        sequences = [sequence for sequence, _ in history]
        assert sequences == sorted(set(sequences))
        assert all(one[1] != other[1] for one, other in itertools.pairwise(history))
    assert {day for day, (_, count) in stored.items() if count} <= histories.keys()

"""What usage takes: each way in once, and counting it."""

from collections.abc import Sequence

from benchmarks import aggregation, growth, ingest
from benchmarks.costs import Book, Scaled, is_done, wait_until
from benchmarks.ingest import FILLED, Event, make
from benchmarks.servers import Stage
from models.store import locked_days
from tasks.aggregation import aggregate_usage
from tasks.producer import StreamProducer
from tasks.producer.stream import STREAM
from tasks.queues import Queue
from tasks.stream import drain_usage_stream
from tasks.usage import record_usage

MESSAGES = {1: 300, 10: 200, 100: 100, 1_000: 60, 5_000: 12}
"""How many of each size are sent."""

WARM_UP = 20
HELD = 12
"""Messages that are weighed in the broker."""

IN_PROCESS = 40_000
SINGLE = 6_000
GROWN = 1_000_000
AFTER_A_CHECKPOINT = 20_000
COUNTED = 500_000
SMALL_TOTALS = 10_000
EVENTS_OF_A_SMALL_TOTAL = 3
FULL_DAYS = 400
EVENTS_OF_A_FULL_DAY = locked_days.FULL + 400


def run(stage: Stage, book: Book, scaled: Scaled) -> None:
    """Measure every path of usage, each on empty tables, and write it down."""
    for path in (
        _by_message, _in_process, _on_a_grown_table, _by_stream, _roll_up, _full_days,
    ):  # fmt: skip
        stage.empty()
        path(stage, book, scaled)


def _by_message(stage: Stage, book: Book, scaled: Scaled) -> None:
    held = {size: _held(stage, size, min(HELD, scaled(count))) for size, count in MESSAGES.items()}
    with book.beside(), stage.worker(Queue.usage, concurrency=1):
        _send(stage, make(WARM_UP), 1)
        for size, count in MESSAGES.items():
            stage.empty(*FILLED)
            events = make(scaled(count) * size)
            name = f"ingest, {size:,} a message"
            book.enter(name, "event", len(events), lambda: _send(stage, events, size))  # noqa: B023
            key = float(stage.value("SELECT pg_relation_size('pk_usage_events')"))
            book.add(name, held_bytes=held[size] / size, key_bytes=key / len(events))


def _send(stage: Stage, events: Sequence[Event], size: int) -> None:
    for chunk in ingest.chunks(events, size):
        record_usage.apply_async(kwargs=chunk[0] if size == 1 else {"events": chunk})
    wait_until(lambda: is_done(stage, Queue.usage, "usage_events", len(events)))


def _held(stage: Stage, size: int, count: int) -> float:
    """Bytes of Redis that a message takes while it waits."""
    for chunk in ingest.chunks(make(size * count), size):
        record_usage.apply_async(kwargs=chunk[0] if size == 1 else {"events": chunk})
    held = _memory(stage, Queue.usage)
    stage.redis.flushdb()
    return held / count


def _memory(stage: Stage, key: str) -> float:
    return float(stage.redis.memory_usage(key, samples=0) or 0)


def _in_process(stage: Stage, book: Book, scaled: Scaled) -> None:
    events = make(scaled(IN_PROCESS, least=1_000))

    def call() -> None:
        for chunk in ingest.chunks(events, 1_000):
            record_usage(events=chunk)  # type: ignore[arg-type]

    book.enter("ingest, in process, 1,000 a call", "event", len(events), call, is_worker=True)
    stage.empty(*FILLED)
    bring_in = ingest.importing(stage, events)
    book.enter("import of a CSV file", "event", len(events), bring_in, is_worker=True)
    _check(stage, len(events))


def _on_a_grown_table(stage: Stage, book: Book, scaled: Scaled) -> None:
    """Each page's first change after a checkpoint is logged whole: many pages, much log."""
    rows, events = scaled(GROWN, least=5_000), make(scaled(AFTER_A_CHECKPOINT, least=1_000))
    stage.execute(aggregation.INTRODUCE, {"count": aggregation.TENANTS})
    table = "usage_events_grown"
    growth.fill(stage, table, rows)
    stage.execute("CHECKPOINT")
    with growth.in_place(stage, table):
        name = "ingest, in process, 1 M rows, after a checkpoint"
        book.enter(name, "event", len(events), lambda: growth.record(events), is_worker=True)
        key_pages = stage.value(f"SELECT pg_relation_size('pk_{table}')") / 8_192
        book.add(name, rows=rows, key_pages=key_pages)
    stage.execute(f"DROP TABLE {table}")


def _by_stream(stage: Stage, book: Book, scaled: Scaled) -> None:
    events = make(scaled(SINGLE, least=500))

    def put() -> None:
        with StreamProducer(stage.environment["BROKER_URL"], pipelined=1) as producer:
            for event in events:
                producer.record(**event | {"at": None})

    def drain() -> None:
        while stage.redis.xlen(STREAM):
            drain_usage_stream()

    name = "ingest, one XADD a call, drained"
    book.enter(name, "event", len(events), put)
    held = _memory(stage, STREAM) / len(events)
    book.enter(name, "event", len(events), drain, is_worker=True)
    book.add(name, held_bytes=held)
    _check(stage, len(events))


def _roll_up(stage: Stage, book: Book, scaled: Scaled) -> None:
    counted, totals = scaled(COUNTED, least=1_000), scaled(SMALL_TOTALS, least=100)
    shape = {"tenants": 50, "metrics": 4, "days": 1}
    _fill(stage, counted, shape)
    book.enter("roll-up, an event counted", "event", counted, aggregation.roll_up, is_worker=True)
    stage.empty()
    shape = {"tenants": max(1, totals // 10), "metrics": 10, "days": 1}
    _fill(stage, totals * EVENTS_OF_A_SMALL_TOTAL, shape)
    name = f"roll-up, a total of {EVENTS_OF_A_SMALL_TOTAL} events, told"
    book.enter(name, "total", totals, aggregate_usage, is_worker=True)


def _full_days(stage: Stage, book: Book, scaled: Scaled) -> None:
    """Of each full day a quarter hour is touched: two dozen events, one of them not there before.

    It is looked at ninety times between two checkpoints, so the first time, which logs whole pages,
    is not measured.
    """
    days = scaled(FULL_DAYS, least=10)
    stage.execute(aggregation.INTRODUCE, {"count": days})
    shape = {"tenants": days, "metrics": 1, "days": 1}
    stage.execute(aggregation.FILL.format(**shape), {"count": days * EVENTS_OF_A_FULL_DAY})
    stage.execute("VACUUM ANALYZE usage_events")
    for _ in range(2):
        aggregation.touch(stage)
        aggregation.roll_up()
    for _ in range(2):
        stage.execute(MISS_ONE_EACH)
        stage.execute(TOUCH_ONE_EACH)
        stage.execute("VACUUM ANALYZE usage_touched_days, usage_quarter_hours, usage_aggregates")
        book.forget(LOOK)
        book.enter(LOOK, "day", days, aggregation.roll_up, is_worker=True)


LOOK = "roll-up, a quarter hour of a full day"

MISS_ONE_EACH = """
    UPDATE usage_quarter_hours SET total = total - 1, event_count = event_count - 1
"""

TOUCH_ONE_EACH = """
    INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
    SELECT array_agg(tenant_id), array_agg(metric), array_agg(first_at), array_agg(last_at)
    FROM (SELECT tenant_id, metric, min(starts_at) AS first_at,
                 min(starts_at) + interval '1 minute' AS last_at
          FROM usage_quarter_hours GROUP BY 1, 2) AS span
"""


def _fill(stage: Stage, count: int, shape: dict[str, int]) -> None:
    """Store events that were counted before, and are to be counted again and found changed."""
    stage.execute(aggregation.INTRODUCE, {"count": shape["tenants"]})
    stage.execute(aggregation.FILL.format(**shape), {"count": count})
    stage.execute("VACUUM ANALYZE usage_events")
    aggregation.touch(stage)
    aggregation.roll_up()
    stage.execute("UPDATE usage_aggregates SET total = total - 1, event_count = event_count - 1")
    aggregation.touch(stage)
    stage.execute("CHECKPOINT")


def _check(stage: Stage, count: int) -> None:
    found = stage.value("SELECT count(*) FROM usage_events")
    if found != count:
        raise AssertionError(f"{found} of {count} events are stored")

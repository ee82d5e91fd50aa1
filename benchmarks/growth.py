"""Growth: the same work on a table of a million events and on one of twenty million."""

import contextlib
import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks import aggregation, rounds
from benchmarks.aggregation import INTRODUCE, METRICS, TENANTS
from benchmarks.ingest import Event, chunks, make
from benchmarks.report import Measure
from benchmarks.servers import OUTBOX, Stage
from models import database
from models.store import usage
from tasks.aggregation import aggregate_usage

JOB = "growth"

SMALL = 1_000_000
TIMES = 20

FEW = "on 1 M rows"
MANY = "on 20 M rows"

RECORDED = 40_000
WARM_UP = 60_000
"""Events of each turn that are not counted. The first change of a page after a checkpoint goes to
the log whole, and a large key has more pages than a turn has events."""
CHUNK = 1_000

INGEST_AIM = 0.70
ROLL_UP_AIM = 0.80
"""Twenty times the rows in at most 25 times the time."""

TABLES = {FEW: "usage_events_few", MANY: "usage_events_many"}

PER_DAY = 100_000
"""Events of all tenants together: more of them are more days, and not fuller ones."""


# A row of the log for each day.
TOUCH_ALL = """
    INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
    SELECT array_agg('tenant-' || tenant), array_agg('metric-' || metric),
           array_agg(day), array_agg(day + interval '1 day' - interval '1 microsecond')
    FROM generate_series(timestamptz '2026-01-01Z',
                         timestamptz '2026-01-01Z' + interval '1 day' * ({days} - 1),
                         interval '1 day') AS day,
         generate_series(0, {tenants} - 1) AS tenant, generate_series(0, {metrics} - 1) AS metric
    GROUP BY day
"""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Let two tables take turns at being the one of usage events."""
    few = rounds.scaled(SMALL, scale, least=2_000)
    sizes = {FEW: few, MANY: few * TIMES}
    stage.execute(INTRODUCE, {"count": TENANTS})
    for name, count in sizes.items():
        fill(stage, TABLES[name], count)
    numbers = itertools.count()
    try:
        ingest = rounds.play(
            "events/s", {name: partial(_ingest, stage, name, scale, numbers) for name in sizes}
        )
        roll_up = rounds.play(
            "events/s",
            {name: partial(_roll_up, stage, name, count) for name, count in sizes.items()},
            most=2,
        )
    finally:
        for table in TABLES.values():
            stage.execute(f"DROP TABLE {table}")
    return [
        ingest.beside(MANY, FEW, job=f"{JOB}, ingest", aim=INGEST_AIM),
        roll_up.beside(MANY, FEW, job=f"{JOB}, roll-up of all", aim=ROLL_UP_AIM),
    ]


def fill(stage: Stage, table: str, count: int) -> None:
    """Fill a table like that of usage events, and build its indexes when all is there."""
    stage.execute(
        f"CREATE TABLE {table} (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
    )
    fill = aggregation.FILL.replace("INTO usage_events", f"INTO {table}")
    stage.execute(
        fill.format(tenants=TENANTS, metrics=METRICS, days=_days(count)), {"count": count}
    )
    for (definition,) in stage.rows(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'usage_events'"
    ):
        stage.execute(
            definition.replace(" ON public.usage_events ", f" ON {table} ")
            .replace("INDEX pk_usage_events", f"INDEX pk_{table}")
            .replace("INDEX ix_usage_events", f"INDEX ix_{table}")
        )
    stage.execute(f"VACUUM ANALYZE {table}")


def _ingest(stage: Stage, name: str, scale: float, numbers: Iterator[int]) -> float:
    warm_up, counted = (
        # Known to neither table.
        [{**event, "idempotency_key": f"turn-{next(numbers)}"} for event in make(size)]
        for size in (rounds.scaled(size, scale, least=CHUNK) for size in (WARM_UP, RECORDED))
    )
    stage.execute("TRUNCATE usage_touched_days")
    with in_place(stage, TABLES[name]):
        record(warm_up)
        return rounds.rate(len(counted), lambda: record(counted))


def record(events: Sequence[Event]) -> None:
    now = dt.datetime.now(dt.UTC)
    for chunk in chunks(events, CHUNK):
        with database.transaction() as session:
            usage.record(session, chunk, now=now)


def _roll_up(stage: Stage, name: str, count: int) -> float:
    """Every day of everyone, without any total to begin with."""
    stage.empty("usage_aggregates", "usage_touched_days", *OUTBOX)
    touch = TOUCH_ALL.format(tenants=TENANTS, metrics=METRICS, days=_days(count))
    stage.execute(touch)
    stage.execute("VACUUM ANALYZE usage_touched_days, usage_aggregates")
    with in_place(stage, TABLES[name]):
        return rounds.rate(count, aggregate_usage)


@contextlib.contextmanager
def in_place(stage: Stage, table: str) -> Iterator[None]:
    """Let a table be the one of usage events."""
    stage.execute("ALTER TABLE usage_events RENAME TO usage_events_aside")
    stage.execute(f"ALTER TABLE {table} RENAME TO usage_events")
    try:
        yield
    finally:
        stage.execute(f"ALTER TABLE usage_events RENAME TO {table}")
        stage.execute("ALTER TABLE usage_events_aside RENAME TO usage_events")


def _days(count: int) -> int:
    return max(1, count // PER_DAY)

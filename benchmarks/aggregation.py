"""Roll-up: the totals of touched days counted from their events."""

import datetime as dt

from benchmarks import rounds
from benchmarks.report import Measure
from benchmarks.servers import OUTBOX, Stage
from models import database
from models.store import aggregate
from tasks.aggregation import CHUNK, aggregate_usage

JOB = "aggregation"

TENANTS = 50
METRICS = 4
DAYS = 15
SIZES = (1_000_000, 5_000_000)
"""Events; five times as many are five times as full days."""

FULL = 2_000_000
"""Events of days of ten thousand."""

LOOK = "the last minutes of each day counted again"
GROUP_BY = "bare GROUP BY of the same events"
AGAIN = "touched days counted again"
ALL_AGAIN = "all quarter hours of each day counted again"
FIRST = "first totals of days, announced"
AIM = 0.50

INTRODUCE = """
    INSERT INTO tenants (tenant_id) SELECT 'tenant-' || n FROM generate_series(0, %(count)s - 1) n
"""

FILL = """
    INSERT INTO usage_events (id, tenant_id, metric, idempotency_key, amount, at, received_at)
    SELECT usage_event_id(tenant_id, metric, key), tenant_id, metric, key, amount, at, now()
    FROM (SELECT 'tenant-' || n %% {tenants} AS tenant_id, 'metric-' || n / {tenants} %% {metrics}
                 AS metric, 'request-' || n AS key, n %% 5000 + 1 AS amount,
                 timestamptz '2026-01-01Z' + n * (interval '{days} days' / %(count)s) AS at
          FROM generate_series(0, %(count)s - 1) AS n) AS made
"""

# What ingest leaves behind for messages of a thousand events, sent as they happened.
TOUCH = """
    INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
    SELECT array_agg(tenant_id), array_agg(metric), array_agg(first_at), array_agg(last_at)
    FROM (
        SELECT message, tenant_id, metric, min(at) AS first_at, max(at) AS last_at
        FROM (SELECT *, row_number() OVER (ORDER BY at) / 1000 AS message FROM usage_events) AS sent
        GROUP BY message, tenant_id, metric, (at AT TIME ZONE 'UTC')::date
    ) AS span
    GROUP BY message ORDER BY message
"""

TOUCH_LAST = """
    INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
    SELECT array_agg(tenant_id), array_agg(metric), array_agg(first_at), array_agg(last_at)
    FROM (
        SELECT tenant_id, metric, max(at) - interval '5 minutes' AS first_at, max(at) AS last_at
        FROM usage_events GROUP BY tenant_id, metric
    ) AS span
"""

FLOOR = """
    SELECT tenant_id, metric, (at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
    FROM usage_events GROUP BY 1, 2, 3
"""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Count days of which all events are stored; per second of events, not of days."""
    stage.execute(INTRODUCE, {"count": TENANTS})
    measures: list[Measure] = []
    for size in SIZES:
        measures += _measure(stage, rounds.scaled(size, scale), f"{size // 1_000_000} M events")
    return [*measures, *_full_days(stage, rounds.scaled(FULL, scale))]


def _measure(stage: Stage, count: int, label: str) -> list[Measure]:
    stage.empty("usage_events")
    stage.execute(FILL.format(tenants=TENANTS, metrics=METRICS, days=DAYS), {"count": count})
    stage.execute("VACUUM ANALYZE usage_events")
    rates = rounds.play(
        "events/s",
        {
            FIRST: lambda: _first(stage, count),
            AGAIN: lambda: _again(stage, count),
            GROUP_BY: lambda: rounds.rate(count, lambda: stage.rows(FLOOR)),
        },
    )
    return [
        rates.beside(AGAIN, GROUP_BY, job=f"{JOB}, {label}", aim=AIM),
        rates.beside(FIRST, GROUP_BY, job=f"{JOB}, {label}"),
    ]


def _full_days(stage: Stage, count: int) -> list[Measure]:
    """Look at days of thousands of events of which the last minutes, or all, were touched.

    Per event of the days; at full size: at a smaller one days have too few events, and are counted
    whole.
    """
    stage.empty("usage_events", "usage_aggregates", "usage_quarter_hours", "usage_touched_days")
    stage.execute(FILL.format(tenants=TENANTS, metrics=METRICS, days=1), {"count": count})
    stage.execute("VACUUM ANALYZE usage_events")
    for _ in range(2):
        touch(stage)
        roll_up()
    rates = rounds.play(
        "events/s",
        {
            LOOK: lambda: _look(stage, count),
            ALL_AGAIN: lambda: _look_at_all(stage, count),
            GROUP_BY: lambda: rounds.rate(count, lambda: stage.rows(FLOOR)),
        },
    )
    job = f"{JOB}, days of 10,000 events"
    return [
        rates.beside(LOOK, GROUP_BY, job=job),
        rates.beside(ALL_AGAIN, GROUP_BY, job=job, aim=AIM),
    ]


def _look(stage: Stage, count: int) -> float:
    stage.execute(TOUCH_LAST)
    stage.execute("VACUUM ANALYZE usage_touched_days, usage_aggregates, usage_quarter_hours")
    return rounds.rate(count, roll_up)


def _look_at_all(stage: Stage, count: int) -> float:
    touch(stage)
    stage.execute("VACUUM ANALYZE usage_quarter_hours")
    return rounds.rate(count, roll_up)


def _first(stage: Stage, count: int) -> float:
    stage.empty("usage_aggregates", "usage_touched_days", *OUTBOX)
    touch(stage)
    return rounds.rate(count, aggregate_usage)


def _again(stage: Stage, count: int) -> float:
    """Late events: every total is there and wrong, and is put right."""
    stage.empty("usage_aggregates", "usage_touched_days")
    touch(stage)
    roll_up()
    stage.execute("UPDATE usage_aggregates SET total = total - 1, event_count = event_count - 1")
    touch(stage)
    return rounds.rate(count, roll_up)


def touch(stage: Stage) -> None:
    stage.execute(TOUCH)
    stage.execute("VACUUM ANALYZE usage_touched_days, usage_aggregates")


def roll_up() -> None:
    now = dt.datetime.now(dt.UTC)
    is_last = False
    while not is_last:
        with database.transaction() as session:
            is_last = aggregate.roll_up(session, limit=CHUNK, now=now).is_last

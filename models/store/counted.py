"""The totals of days and months, locked, counted and written: the heart of a roll-up.

What one statement finds goes to the next as the text of arrays: thousands of rows that Python
neither reads nor writes. Why the statements come in this order is said in aggregate.py; what is
different about a day of thousands of events, in full_days.py.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from models.rules.meter import Aggregation
from models.store import counting, full_days, locked_days, touched
from models.store.counted_statements import COUNT, COUNT_PLAIN, FULL, MONTHS
from models.store.locked_days import LOCKED
from models.store.turns import Turns

FIRST = 4_000
"""Totals that the first statement counts: each of a day that is not full, so of few events."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A day whose total is new or has changed; `version` counts the changes of that day."""

    tenant_id: str
    metric: str
    day_start: dt.datetime
    total: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many local days spans met, and those whose total is new or has changed.

    `left`: there was no time for some, and they are in the log of touched days again.
    """

    days: int
    changed: list[Changed]
    left: bool


def count(session: Session, spans: dict[str, Any], *, now: dt.datetime, turns: Turns) -> Counted:
    """Count the local days that spans meet, and their months.

    Meters must be held and the tenants locked.

    Args:
        spans: arrays, or their text: `tenant_ids`, `metrics`, `firsts`, `lasts` and `quarters`,
            bits for the quarter hours of the UTC day in which the span begins.
        turns: what they leave is left to another roll-up.
    """
    found = session.execute(PERIODS, spans).one()
    session.execute(PREPARE, {**found._asdict(), "now": now})
    locked = locked_days.lock(session, found._asdict())
    if not locked.count:
        return Counted(found.days, [], left=False)
    periods = {**locked.columns, "now": now}
    # Later statements than the lock: they see all that was committed before the lock was ours.
    kinds = session.execute(KINDS, periods).all()
    changed = list[Changed]()

    def count_days(done: int, upto: int) -> None:
        for kind in kinds:
            if kind.has_days:
                statement = COUNT_PLAIN if kind.is_plain else COUNT[Aggregation(kind.aggregation)]
                changed.extend(_write(session, statement, periods, done, upto))

    done = turns.take(locked.count, count_days, first=FIRST)
    if done < locked.count:
        session.execute(TOUCH_AGAIN, {**periods, "done": done})
    full = [full_days.Kind(kind.aggregation, kind.is_plain) for kind in kinds if kind.has_full]
    if full:
        work = full_days.count(session, full, spans, periods, turns=turns)
        periods["unfinished"] = work.unfinished
        for aggregation in {kind.aggregation for kind in full}:
            changed += _write(session, FULL[aggregation], periods, 0, locked.count)
    for aggregation in MONTHS.keys() & {Aggregation(kind.aggregation) for kind in kinds}:
        _write(session, MONTHS[aggregation], periods, 0, locked.count)
    return Counted(found.days, changed, left=done < locked.count or bool(full and work.left))


def _write(
    session: Session, statement: TextClause, periods: dict[str, Any], done: int, upto: int
) -> list[Changed]:
    written = session.execute(statement, {**periods, "done": done, "upto": upto})
    return [
        Changed(row.tenant_id, row.metric, row.period_start, row.total, row.version)
        for row in written
        if row.is_news
    ]


# A touched span meets a local day when some instant is in both. The dates to try are those its ends
# have in the zone, and the ones beside them: by the wall clock an instant may seem to be in another
# day than the one that holds it. Bounds are worked out once for each zone and date. What is closed
# is not counted again: its events may be gone. A day or month that lies across the horizon, a
# midnight of the zone in which the tenant was then, begins there.
PERIODS = text("""
    WITH spans AS MATERIALIZED (
        SELECT span.*, tenants.timezone
        FROM unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
                    CAST(:firsts AS timestamptz[]), CAST(:lasts AS timestamptz[]))
             AS span(tenant_id, metric, first_at, last_at)
        JOIN tenants USING (tenant_id)
    ),
    dates AS MATERIALIZED (
        SELECT spans.*, (first_at AT TIME ZONE timezone)::date + step AS date
        FROM spans, generate_series(
            -1, (last_at AT TIME ZONE timezone)::date - (first_at AT TIME ZONE timezone)::date + 1
        ) AS step
    ),
    bounds AS MATERIALIZED (
        SELECT timezone, date,
               local_midnight(date, timezone) AS starts_at,
               local_midnight(date + 1, timezone) AS ends_at,
               date_trunc('month', date::timestamp)::date AS month
        FROM (SELECT DISTINCT timezone, date FROM dates) AS each
    ),
    months AS MATERIALIZED (
        SELECT timezone, month,
               local_midnight(month, timezone) AS starts_at,
               local_midnight((month + interval '1 month')::date, timezone) AS ends_at
        FROM (SELECT DISTINCT timezone, month FROM bounds) AS each
    ),
    days AS MATERIALIZED (
        SELECT tenant_id, metric, open.starts_at, ends_at, timezone, month, closed_until,
               min(greatest(first_at, open.starts_at)) AS touched_at
        FROM dates
        JOIN bounds USING (timezone, date)
        LEFT JOIN usage_horizons USING (tenant_id)
        CROSS JOIN LATERAL (SELECT greatest(bounds.starts_at, closed_until) AS starts_at) AS open
        WHERE open.starts_at <= last_at AND first_at < ends_at AND open.starts_at < ends_at
        GROUP BY tenant_id, metric, open.starts_at, ends_at, timezone, month, closed_until
    ),
    periods AS (
        SELECT tenant_id, metric, 'day' AS granularity, starts_at, ends_at, touched_at FROM days
        UNION ALL
        SELECT tenant_id, metric, 'month', greatest(months.starts_at, closed_until),
               months.ends_at, NULL
        FROM (SELECT DISTINCT tenant_id, metric, timezone, month, closed_until FROM days) AS each
        JOIN months USING (timezone, month)
    )
    SELECT count(*) FILTER (WHERE granularity = 'day') AS days,
           array_agg(tenant_id)::text AS tenant_ids, array_agg(metric)::text AS metrics,
           array_agg(granularity)::text AS granularities,
           array_agg(starts_at)::text AS starts, array_agg(ends_at)::text AS ends,
           array_agg(touched_at)::text AS touched_ats
    FROM periods
""")

# Totals that are missing are made in the order in which all are locked. OFFSET 0 keeps each look a
# step down an index: joined instead, it was seen to read all totals of a tenant for each day.
PREPARE = text(f"""
    INSERT INTO usage_aggregates
        (tenant_id, metric, granularity, period_start, period_end, version, updated_at)
    SELECT span.tenant_id, span.metric, span.granularity, span.starts_at, span.ends_at,
           tenants.usage_version, :now
    FROM {locked_days.GIVEN}
    JOIN tenants ON tenants.tenant_id = span.tenant_id
    WHERE NOT EXISTS (
        SELECT FROM usage_aggregates AS held
        WHERE held.tenant_id = span.tenant_id AND held.metric = span.metric
          AND held.granularity = span.granularity AND held.period_start = span.starts_at
        OFFSET 0
    ) AND EXISTS (
        SELECT FROM usage_events AS event
        WHERE event.tenant_id = span.tenant_id AND event.metric = span.metric
          AND event.at >= span.starts_at AND event.at < span.ends_at
        OFFSET 0
    )
    ORDER BY span.tenant_id, span.metric, span.granularity, span.starts_at
    ON CONFLICT (tenant_id, metric, granularity, period_start) DO NOTHING
""")  # noqa: S608 (a constant of this module)

KINDS = text(f"""
    SELECT coalesce(meter.aggregation, 'sum') AS aggregation, {counting.IS_PLAIN} AS is_plain,
           bool_or(span.granularity = 'day' AND NOT span.is_full) AS has_days,
           bool_or(span.is_full) AS has_full
    FROM {LOCKED}
    LEFT JOIN meters AS meter ON meter.metric = span.metric
    GROUP BY 1, 2
""")  # noqa: S608 (a constant of this module)

TOUCH_AGAIN = text(
    touched.append(f"""
        SELECT tenant_id, metric, starts_at AS first_at,
               ends_at - interval '1 microsecond' AS last_at
        FROM {LOCKED}
        WHERE span.number > :done AND granularity = 'day' AND NOT is_full
    """)  # noqa: S608 (a constant of this module)
)

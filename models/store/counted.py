"""The totals of days and months, locked, counted and written: the heart of a roll-up.

What one statement finds goes to the next as the text of arrays: thousands of rows that Python
neither reads nor writes. Why the statements come in this order is said in aggregate.py.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.meter import Aggregation
from models.store import counting


@dataclass(frozen=True, slots=True)
class Changed:
    """A day whose total is new or has changed; `version` counts the changes of that day."""

    tenant_id: str
    metric: str
    day_start: dt.datetime
    total: Decimal
    version: int


def count(
    session: Session, spans: dict[str, Any], *, now: dt.datetime
) -> tuple[int, list[Changed]]:
    """Count the local days that spans meet, and their months.

    Meters must be held and the tenants locked.

    Args:
        spans: arrays, or their text: `tenant_ids`, `metrics`, `firsts` and `lasts`.

    Returns:
        How many days those are, and the ones whose total is new or has changed.
    """
    found = session.execute(PERIODS, spans).one()
    session.execute(PREPARE, {**found._asdict(), "now": now})
    locked = session.execute(LOCK, found._asdict()).one()
    if locked.places is None:
        return found.days, []
    periods = {**locked._asdict(), "now": now}
    # Later statements than the lock: they see all that was committed before the lock was ours.
    kinds = session.execute(KINDS, periods).all()
    changed: list[Changed] = []
    for kind in kinds:
        aggregation = Aggregation(kind.aggregation)
        counted = session.execute(COUNT_PLAIN if kind.is_plain else COUNT[aggregation], periods)
        changed += [
            Changed(row.tenant_id, row.metric, row.period_start, row.total, row.version)
            for row in counted
            if row.is_news
        ]
    for aggregation in MONTHS.keys() & {Aggregation(kind.aggregation) for kind in kinds}:
        session.execute(MONTHS[aggregation], periods)
    return found.days, changed


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
        SELECT DISTINCT tenant_id, metric, open.starts_at, ends_at, timezone, month, closed_until
        FROM dates
        JOIN bounds USING (timezone, date)
        LEFT JOIN usage_horizons USING (tenant_id)
        CROSS JOIN LATERAL (SELECT greatest(bounds.starts_at, closed_until) AS starts_at) AS open
        WHERE open.starts_at <= last_at AND first_at < ends_at AND open.starts_at < ends_at
    ),
    periods AS (
        SELECT tenant_id, metric, 'day' AS granularity, starts_at, ends_at FROM days
        UNION ALL
        SELECT tenant_id, metric, 'month', greatest(months.starts_at, closed_until), months.ends_at
        FROM (SELECT DISTINCT tenant_id, metric, timezone, month, closed_until FROM days) AS each
        JOIN months USING (timezone, month)
    )
    SELECT count(*) FILTER (WHERE granularity = 'day') AS days,
           array_agg(tenant_id)::text AS tenant_ids, array_agg(metric)::text AS metrics,
           array_agg(granularity)::text AS granularities,
           array_agg(starts_at)::text AS starts, array_agg(ends_at)::text AS ends
    FROM periods
""")

GIVEN = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:granularities AS text[]), CAST(:starts AS timestamptz[]),
           CAST(:ends AS timestamptz[]))
        AS span(tenant_id, metric, granularity, starts_at, ends_at)
"""

# Totals that are missing are made in the order in which all are locked. OFFSET 0 keeps each look a
# step down an index: joined instead, it was seen to read all totals of a tenant for each day.
PREPARE = text(f"""
    INSERT INTO usage_aggregates
        (tenant_id, metric, granularity, period_start, period_end, version, updated_at)
    SELECT span.tenant_id, span.metric, span.granularity, span.starts_at, span.ends_at,
           tenants.usage_version, :now
    FROM {GIVEN}
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

# Locked one by one in the order of their key. Nobody can change a row of ours now, so where it lies
# says from here on which it is. Fresh is one that was never counted.
LOCK = text(f"""
    SELECT array_agg(held.place)::text AS places, array_agg(span.tenant_id)::text AS tenant_ids,
           array_agg(span.metric)::text AS metrics,
           array_agg(span.granularity)::text AS granularities,
           array_agg(span.starts_at)::text AS starts, array_agg(span.ends_at)::text AS ends,
           array_agg(held.total)::text AS totals, array_agg(held.event_count)::text AS counts,
           array_agg(held.version = tenants.usage_version)::text AS fresh
    FROM (
        SELECT * FROM {GIVEN} ORDER BY tenant_id, metric, granularity, starts_at
    ) AS span
    CROSS JOIN LATERAL (
        SELECT held.ctid AS place, held.total, held.event_count, held.version
        FROM usage_aggregates AS held
        WHERE held.tenant_id = span.tenant_id AND held.metric = span.metric
          AND held.granularity = span.granularity AND held.period_start = span.starts_at
        FOR UPDATE
    ) AS held
    JOIN tenants ON tenants.tenant_id = span.tenant_id
""")  # noqa: S608 (a constant of this module)

LOCKED = """
    unnest(CAST(:places AS tid[]), CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:granularities AS text[]), CAST(:starts AS timestamptz[]),
           CAST(:ends AS timestamptz[]), CAST(:totals AS numeric[]), CAST(:counts AS bigint[]),
           CAST(:fresh AS boolean[]))
        AS span(place, tenant_id, metric, granularity, starts_at, ends_at, before, count_before,
                is_fresh)
"""

KINDS = text(f"""
    SELECT DISTINCT coalesce(meter.aggregation, 'sum') AS aggregation,
           {counting.IS_PLAIN} AS is_plain
    FROM (SELECT DISTINCT unnest(CAST(:metrics AS text[])) AS metric) AS given
    LEFT JOIN meters AS meter USING (metric)
""")  # noqa: S608 (a constant of this module)


def _store(condition: str, sums: str) -> str:
    """Write the totals that differ. News are a first total and another total of a day."""
    return f"""
        WITH summed AS MATERIALIZED (
            SELECT span.place, span.before, span.is_fresh, sums.*,
                   coalesce(meter.definition, 0) AS definition,
                   (span.before, span.count_before) IS DISTINCT FROM (sums.total, sums.event_count)
                   AS differs
            FROM {LOCKED}
            LEFT JOIN meters AS meter ON meter.metric = span.metric
            {sums}
            WHERE {condition}
        )
        UPDATE usage_aggregates AS held
        SET total = summed.total, event_count = summed.event_count, updated_at = :now,
            meter_definition = summed.definition,
            version = held.version + CASE WHEN summed.differs THEN 1 ELSE 0 END
        FROM summed
        WHERE held.ctid = summed.place
          AND (summed.differs OR held.meter_definition <> summed.definition)
        RETURNING held.tenant_id, held.metric, held.period_start, held.total, held.version,
                  held.granularity = 'day' AND (
                      held.total <> summed.before OR (summed.is_fresh AND summed.differs)
                  ) AS is_news
    """  # noqa: S608 (constants of this module)


COUNT_PLAIN = text(_store(f"span.granularity = 'day' AND {counting.IS_PLAIN}", counting.PLAIN_SUMS))

COUNT = {
    aggregation: text(
        _store(
            f"meter.aggregation = '{aggregation}' AND NOT {counting.IS_PLAIN}"
            + (" AND span.granularity = 'day'" if aggregation in counting.DAY_TOTALS else ""),
            counting.sums(aggregation),
        )
    )
    for aggregation in Aggregation
}

MONTHS = {
    aggregation: text(
        _store(
            f"span.granularity = 'month' AND coalesce(meter.aggregation, 'sum') = '{aggregation}'",
            f"""
                CROSS JOIN LATERAL (
                    SELECT {total} AS total, coalesce(sum(day.event_count), 0) AS event_count
                    FROM usage_aggregates AS day
                    WHERE day.tenant_id = span.tenant_id AND day.metric = span.metric
                      AND day.granularity = 'day'
                      AND day.period_start >= span.starts_at AND day.period_start < span.ends_at
                ) AS sums
            """,  # noqa: S608 (constants)
        )
    )
    for aggregation, total in counting.DAY_TOTALS.items()
}

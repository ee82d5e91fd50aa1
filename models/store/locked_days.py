"""Totals locked before they are counted, and what is known of each by then."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.meter import Aggregation

FULL = 2_000
"""Events from which on a day is counted by quarter hours.

Counting so many takes the better part of a millisecond, a few times what a quarter hour of them
and the sum of ninety-six take; and ninety-six rows are a tenth of such events' bytes at most.
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """How many totals are locked, and the arrays of what they are, as text."""

    count: int
    columns: dict[str, Any]


def lock(session: Session, periods: dict[str, Any]) -> Locked:
    """Lock the totals of periods, by their key, and see which of their days are full.

    Args:
        periods: arrays, or their text: `tenant_ids`, `metrics`, `granularities`, `starts`, `ends`
            and `touched_ats`, when the first of what touched a day was.
    """
    row = session.execute(LOCK, {**periods, "full": FULL}).one()._asdict()
    return Locked(row.pop("count"), row)


GIVEN = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:granularities AS text[]), CAST(:starts AS timestamptz[]),
           CAST(:ends AS timestamptz[]), CAST(:touched_ats AS timestamptz[]))
        AS span(tenant_id, metric, granularity, starts_at, ends_at, touched_at)
"""

# Locked one by one in the order of their key. Nobody can change a row of ours now, so where it lies
# says from here on which it is. Fresh is one that was never counted. Quarter hours are good for
# nothing if the day was counted by another meter since, or by a release that knows none of them.
# A day that nobody has counted for hours is told by the first hour of what came: of all of it, that
# would be as much to read as its count.
LOCK = text(f"""
    SELECT count(*) AS count,
           array_agg(held.place)::text AS places, array_agg(span.tenant_id)::text AS tenant_ids,
           array_agg(span.metric)::text AS metrics,
           array_agg(span.granularity)::text AS granularities,
           array_agg(span.starts_at)::text AS starts, array_agg(span.ends_at)::text AS ends,
           array_agg(held.total)::text AS totals, array_agg(held.event_count)::text AS counts,
           array_agg(held.version = tenants.usage_version)::text AS fresh,
           array_agg(
               span.granularity = 'day'
               AND coalesce(meter.aggregation, 'sum') <> '{Aggregation.unique_count}'
               AND (held.quarter_hours_until IS NOT NULL OR held.event_count >= :full OR EXISTS (
                   SELECT FROM usage_events AS event
                   WHERE event.tenant_id = span.tenant_id AND event.metric = span.metric
                     AND event.at >= span.touched_at AND event.at < span.ends_at
                     AND event.at < span.touched_at + interval '1 hour'
                   OFFSET :full LIMIT 1
               ))
           )::text AS full_ones,
           array_agg(
               CASE WHEN held.meter_definition = coalesce(meter.definition, 0)
                     AND held.quarter_hours_version = held.version
                    THEN held.quarter_hours_until END
           )::text AS known
    FROM (
        SELECT * FROM {GIVEN} ORDER BY tenant_id, metric, granularity, starts_at
    ) AS span
    CROSS JOIN LATERAL (
        SELECT held.ctid AS place, held.total, held.event_count, held.version,
               held.meter_definition, held.quarter_hours_until, held.quarter_hours_version
        FROM usage_aggregates AS held
        WHERE held.tenant_id = span.tenant_id AND held.metric = span.metric
          AND held.granularity = span.granularity AND held.period_start = span.starts_at
        FOR UPDATE
    ) AS held
    JOIN tenants ON tenants.tenant_id = span.tenant_id
    LEFT JOIN meters AS meter ON meter.metric = span.metric
""")  # noqa: S608 (a constant of this module)

LOCKED = """
    unnest(CAST(:places AS tid[]), CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:granularities AS text[]), CAST(:starts AS timestamptz[]),
           CAST(:ends AS timestamptz[]), CAST(:totals AS numeric[]), CAST(:counts AS bigint[]),
           CAST(:fresh AS boolean[]), CAST(:full_ones AS boolean[]), CAST(:known AS timestamptz[]))
        WITH ORDINALITY
        AS span(place, tenant_id, metric, granularity, starts_at, ends_at, before, count_before,
                is_fresh, is_full, known_until, number)
"""
"""The totals that are locked, for a FROM clause; quarter hours are good up to `known_until`."""

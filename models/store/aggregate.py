"""Daily totals of usage: recomputed from the events of the days that were touched, never added to.

A total can neither miss an event nor go back to an older value, because each step is a statement of
its own and comes after the one before: take the rows of the log that can be seen (so their events
can be seen too), lock the totals, and only then sum, with the snapshot of that later statement.
Locks are taken in one order: log rows, tenants, totals by their key.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Day:
    """One metric of one tenant in one local day, `[start, end)`."""

    tenant_id: str
    metric: str
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """A day whose total is new or has changed; `version` counts the changes of that day."""

    tenant_id: str
    metric: str
    day_start: dt.datetime
    total: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class RolledUp:
    """One chunk: how many rows of the log it took, and the days they led to."""

    touched: int
    days: int
    changed: tuple[Changed, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric of a tenant over `[start, end)`, both local midnights of the tenant."""

    tenant_id: str
    metric: str
    start: dt.datetime
    end: dt.datetime


def roll_up(
    session: Session, *, limit: int, now: dt.datetime, tenant_id: str | None = None
) -> RolledUp:
    """Bring the totals of touched days up to date; `touched` below `limit` means nothing is left.

    Call it before the transaction locks anything else.

    Args:
        limit: how many rows of the log to take, at least 1.
        tenant_id: only this tenant's days, waiting for another transaction that is counting them
            (so that its totals are there when this returns). Without it: anyone's, leaving out what
            others are counting. To wait, a transaction must not have counted anything else before.
    """
    of_tenant = {} if tenant_id is None else {"tenant_id": tenant_id}
    taken = session.execute(TAKE_OF_TENANT if of_tenant else TAKE, {"limit": limit} | of_tenant)
    spans = taken.one()
    if not spans.touched:
        return RolledUp(0, 0, ())
    session.execute(LOCK_TENANTS, {"tenant_ids": spans.tenant_ids})
    days = session.execute(DAYS, spans._asdict()).one()
    changed = _count(session, days._asdict(), now=now)
    return RolledUp(spans.touched, days.days, tuple(changed))


def count(session: Session, days: Sequence[Day], *, now: dt.datetime) -> list[Changed]:
    """Sum the events of distinct `days` and store the totals; return those new or changed.

    A day without events gets no total, unless it had one.
    """
    if not days:
        return []
    given = {
        "tenant_ids": [day.tenant_id for day in days],
        "metrics": [day.metric for day in days],
        "starts": [day.start for day in days],
        "ends": [day.end for day in days],
    }
    return _count(session, given, now=now)


def lock_tenants(session: Session, tenant_ids: Collection[str]) -> None:
    """Keep the tenants' time zones as they are until the transaction ends.

    A change of zone waits for us, or we for it: no total is made with the old zone after
    `rebucket`. The key share is what the foreign key of totals would take anyway.
    """
    session.execute(LOCK_TENANTS, {"tenant_ids": sorted(tenant_ids)})


def totals(session: Session, wanted: Sequence[Wanted]) -> list[Decimal]:
    """Return the sum of daily totals for each of `wanted`, in order; 0 where nothing was used."""
    if not wanted:
        return []
    return list(
        session.execute(
            TOTALS,
            {
                "tenant_ids": [each.tenant_id for each in wanted],
                "metrics": [each.metric for each in wanted],
                "starts": [each.start for each in wanted],
                "ends": [each.end for each in wanted],
            },
        ).scalars()
    )


def rebucket(session: Session, tenant_id: str) -> None:
    """Drop a tenant's totals and log their days as touched: its days begin at other instants now.

    Call it in the transaction that locked the tenant and changed its time zone.
    """
    session.execute(REBUCKET, {"tenant_id": tenant_id})


def _count(session: Session, days: dict[str, Any], *, now: dt.datetime) -> list[Changed]:
    session.execute(PREPARE, days | {"now": now})
    session.execute(LOCK, days)
    # A later statement than the lock: it sees all that was committed before the lock was ours.
    counted = session.execute(COUNT, days | {"now": now})
    return [
        Changed(row.tenant_id, row.metric, row.period_start, row.total, row.version)
        for row in counted
        if row.is_news
    ]


def _take(condition: str, waiting: str) -> str:
    """Take rows of the log, oldest first, and sum them up by UTC day: many touch the same."""
    return f"""
        WITH picked AS MATERIALIZED (
            SELECT id FROM usage_touched_days {condition} ORDER BY id LIMIT :limit
            FOR UPDATE {waiting}
        ),
        taken AS (
            DELETE FROM usage_touched_days AS day USING picked WHERE day.id = picked.id
            RETURNING day.tenant_id, day.metric, day.first_at, day.last_at
        ),
        spans AS (
            SELECT tenant_id, metric, min(first_at) AS first_at, max(last_at) AS last_at
            FROM taken GROUP BY tenant_id, metric, (first_at AT TIME ZONE 'UTC')::date
        )
        SELECT (SELECT count(*) FROM taken) AS touched,
               array_agg(tenant_id)::text AS tenant_ids, array_agg(metric)::text AS metrics,
               array_agg(first_at)::text AS firsts, array_agg(last_at)::text AS lasts
        FROM spans
    """  # noqa: S608 (constants of this module)


# What one statement finds goes to the next as the text of arrays: thousands of rows that Python
# neither reads nor writes.
TAKE = text(_take("", "SKIP LOCKED"))

TAKE_OF_TENANT = text(_take("WHERE tenant_id = :tenant_id", ""))

LOCK_TENANTS = text("""
    SELECT FROM tenants WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
    ORDER BY tenant_id FOR KEY SHARE
""")

# A touched span meets a local day when some instant is in both. The dates to try are those its ends
# have in the zone, and the ones beside them: by the wall clock an instant may seem to be in another
# day than the one that holds it. Bounds are worked out once for each zone and date.
DAYS = text("""
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
               local_midnight(date + 1, timezone) AS ends_at
        FROM (SELECT DISTINCT timezone, date FROM dates) AS each
    )
    SELECT count(*) AS days,
           array_agg(tenant_id)::text AS tenant_ids, array_agg(metric)::text AS metrics,
           array_agg(starts_at)::text AS starts, array_agg(ends_at)::text AS ends
    FROM (
        SELECT DISTINCT tenant_id, metric, starts_at, ends_at
        FROM dates JOIN bounds USING (timezone, date)
        WHERE starts_at <= last_at AND first_at < ends_at AND starts_at < ends_at
    ) AS days
""")

GIVEN = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
"""

# Totals that are missing are made in the order in which all are locked.
PREPARE = text(f"""
    INSERT INTO usage_aggregates
        (tenant_id, metric, granularity, period_start, period_end, updated_at)
    SELECT tenant_id, metric, 'day', starts_at, ends_at, :now
    FROM {GIVEN} AS day(tenant_id, metric, starts_at, ends_at)
    WHERE NOT EXISTS (
        SELECT FROM usage_aggregates AS held
        WHERE held.tenant_id = day.tenant_id AND held.metric = day.metric
          AND held.granularity = 'day' AND held.period_start = day.starts_at
    ) AND EXISTS (
        SELECT FROM usage_events AS event
        WHERE event.tenant_id = day.tenant_id AND event.metric = day.metric
          AND event.at >= day.starts_at AND event.at < day.ends_at
    )
    ORDER BY tenant_id, metric, starts_at
    ON CONFLICT (tenant_id, metric, granularity, period_start) DO NOTHING
""")  # noqa: S608 (a constant of this module)

LOCK = text(f"""
    SELECT FROM {GIVEN} AS day(tenant_id, metric, starts_at, ends_at)
    JOIN usage_aggregates AS held
      ON held.tenant_id = day.tenant_id AND held.metric = day.metric
     AND held.granularity = 'day' AND held.period_start = day.starts_at
    ORDER BY held.tenant_id, held.metric, held.granularity, held.period_start
    FOR UPDATE OF held
""")

# LATERAL: each day is one range of the index, whatever the planner believes about the rest. What is
# the same is not written. News are a first total and another total, not another count alone.
COUNT = text(f"""
    WITH summed AS MATERIALIZED (
        SELECT held.tenant_id, held.metric, held.period_start, held.total AS before, sums.*
        FROM {GIVEN} AS day(tenant_id, metric, starts_at, ends_at)
        JOIN usage_aggregates AS held
          ON held.tenant_id = day.tenant_id AND held.metric = day.metric
         AND held.granularity = 'day' AND held.period_start = day.starts_at
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(event.amount), 0) AS total, count(*) AS event_count
            FROM usage_events AS event
            WHERE event.tenant_id = day.tenant_id AND event.metric = day.metric
              AND event.at >= day.starts_at AND event.at < day.ends_at
        ) AS sums
        WHERE (held.total, held.event_count) IS DISTINCT FROM (sums.total, sums.event_count)
    )
    UPDATE usage_aggregates AS held
    SET total = summed.total, event_count = summed.event_count,
        version = held.version + 1, updated_at = :now
    FROM summed
    WHERE held.tenant_id = summed.tenant_id AND held.metric = summed.metric
      AND held.granularity = 'day' AND held.period_start = summed.period_start
    RETURNING held.tenant_id, held.metric, held.period_start, held.total, held.version,
              held.version = 1 OR held.total <> summed.before AS is_news
""")  # noqa: S608 (a constant of this module)

TOTALS = text(f"""
    SELECT sums.total
    FROM {GIVEN} WITH ORDINALITY AS wanted(tenant_id, metric, starts_at, ends_at, place)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(day.total), 0) AS total
        FROM usage_aggregates AS day
        WHERE day.tenant_id = wanted.tenant_id AND day.metric = wanted.metric
          AND day.granularity = 'day'
          AND day.period_start >= wanted.starts_at AND day.period_start < wanted.ends_at
    ) AS sums
    ORDER BY wanted.place
""")  # noqa: S608 (a constant of this module)

REBUCKET = text("""
    WITH dropped AS (
        DELETE FROM usage_aggregates WHERE tenant_id = :tenant_id
        RETURNING metric, period_start, period_end
    )
    INSERT INTO usage_touched_days (tenant_id, metric, first_at, last_at)
    SELECT CAST(:tenant_id AS text), metric, period_start,
           period_end - interval '1 microsecond'
    FROM dropped
""")

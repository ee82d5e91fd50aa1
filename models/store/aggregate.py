"""Totals of usage by day and month: recomputed from what was touched, never added to.

A total can neither miss an event nor go back to an older value, because each step is a statement of
its own and comes after the one before: take the rows of the log that can be seen (so their events
can be seen too), lock the totals, and only then sum, with the snapshot of that later statement.
The total of a month is made last, from its days or, where days do not tell, from the events; who
counts another day of the same month at the same time waits for its lock and then sees this one's.
Locks are taken in one order: meters, log rows, tenants, totals by their key.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.store import counted, late_usage, meter, touched
from models.store.counted import Changed
from models.store.turns import AT_ONCE, Turns

MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Day:
    """One metric of one tenant in one local day, `[start, end)`."""

    tenant_id: str
    metric: str
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, slots=True)
class RolledUp:
    """How many rows of the log a chunk was made of, the days they led to, and if none is left."""

    touched: int
    days: int
    changed: tuple[Changed, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric of a tenant over `[start, end)`, both local midnights of the tenant."""

    tenant_id: str
    metric: str
    start: dt.datetime
    end: dt.datetime


def roll_up(session: Session, *, limit: int, now: dt.datetime, turns: Turns = AT_ONCE) -> RolledUp:
    """Bring the totals of touched days up to date.

    What others are counting is left to them. Call it before the transaction locks anything else.

    Args:
        limit: how many rows of the log to take, at least 1.
        turns: what they leave goes back into the log.
    """
    meter.hold(session)
    rolled_up = _count_taken(session, session.execute(TAKE, {"limit": limit}).one(), now, turns)
    return replace(rolled_up, is_last=rolled_up.is_last and rolled_up.touched < limit)


def roll_up_tenants(
    session: Session, tenant_ids: Collection[str], *, now: dt.datetime, turns: Turns = AT_ONCE
) -> RolledUp:
    """Bring the totals of all touched days of these tenants up to date.

    It waits for another transaction that is counting some of them, so that its totals are there
    when this returns; to wait, a transaction must not have counted anything else before. Rows of
    the log that name other tenants too stay in it: what is counted again comes to the same.
    """
    meter.hold(session)
    taken = session.execute(TAKE_OF_TENANTS, {"wanted": sorted(tenant_ids)})
    return _count_taken(session, taken.one(), now, turns)


def _count_taken(session: Session, spans: Row[Any], now: dt.datetime, turns: Turns) -> RolledUp:
    if not spans.touched:
        return RolledUp(0, 0, (), is_last=True)
    session.execute(LOCK_TENANTS, {"tenant_ids": spans.tenant_ids})
    found = counted.count(session, spans._asdict(), now=now, turns=turns)
    late_usage.notice(session, spans._asdict(), now=now)
    return RolledUp(spans.touched, found.days, tuple(found.changed), is_last=not found.left)


def count(
    session: Session, days: Sequence[Day], *, now: dt.datetime, turns: Turns = AT_ONCE
) -> list[Changed]:
    """Count distinct `days` and their months; store the totals; return those new or changed.

    A day without events gets no total, unless it had one. The tenants must be locked.
    """
    if not days:
        return []
    meter.hold(session)
    given = {
        "tenant_ids": [day.tenant_id for day in days],
        "metrics": [day.metric for day in days],
        "firsts": [day.start for day in days],
        "lasts": [day.end - MICROSECOND for day in days],
        "quarters": [touched.ALL_QUARTERS for _ in days],
    }
    found = counted.count(session, given, now=now, turns=turns)
    late_usage.notice(session, given, now=now)
    return found.changed


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

    New totals take up the versions where the dropped ones ended, so that the events of a day which
    begins at the same instant in both zones go on rising. Totals of what is closed stay, by the
    days of the zone in which it was. Call it in the transaction that locked the tenant and changed
    its time zone.
    """
    session.execute(REBUCKET, {"tenant_id": tenant_id})


# What one statement finds goes to the next as the text of arrays: thousands of rows that Python
# neither reads nor writes. Spans are summed up by UTC day, of which it is said which quarter hours
# were touched: many rows touch the same.
SUMMED_UP = f"""
    SELECT (SELECT count(*) FROM logged) AS touched,
           array_agg(tenant_id)::text AS tenant_ids, array_agg(metric)::text AS metrics,
           array_agg(first_at)::text AS firsts, array_agg(last_at)::text AS lasts,
           array_agg(quarters)::text AS quarters
    FROM (
        SELECT tenant_id, metric, min(first_at) AS first_at, max(last_at) AS last_at,
               bit_or(quarters) AS quarters
        FROM logged CROSS JOIN LATERAL {touched.WITH_QUARTERS}
        WHERE {{condition}}
        GROUP BY tenant_id, metric, (first_at AT TIME ZONE 'UTC')::date
    ) AS spans
"""  # noqa: S608 (constants of this module)

COLUMNS = "tenant_ids, metrics, firsts, lasts"

TAKE = text(f"""
    WITH picked AS MATERIALIZED (
        SELECT id FROM usage_touched_days ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    ),
    logged AS (
        DELETE FROM usage_touched_days AS row USING picked WHERE row.id = picked.id
        RETURNING {COLUMNS}
    )
    {SUMMED_UP.format(condition="true")}
""")  # noqa: S608 (constants of this module)

# A row with other tenants is only share-locked, so that invoices of different tenants do not wait
# for one another; a roll-up under way has it locked for good, and is waited for.
TAKE_OF_TENANTS = text(f"""
    WITH picked AS MATERIALIZED (
        SELECT id FROM usage_touched_days WHERE tenant_ids <@ CAST(:wanted AS text[])
        ORDER BY id FOR UPDATE
    ),
    theirs AS (
        DELETE FROM usage_touched_days AS row USING picked WHERE row.id = picked.id
        RETURNING {COLUMNS}
    ),
    shared AS MATERIALIZED (
        SELECT {COLUMNS} FROM usage_touched_days
        WHERE tenant_ids && CAST(:wanted AS text[])
          AND NOT tenant_ids <@ CAST(:wanted AS text[])
        ORDER BY id FOR SHARE
    ),
    logged AS (SELECT * FROM theirs UNION ALL SELECT * FROM shared)
    {SUMMED_UP.format(condition="tenant_id = ANY(CAST(:wanted AS text[]))")}
""")  # noqa: S608 (constants of this module)

LOCK_TENANTS = text("""
    SELECT FROM tenants WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
    ORDER BY tenant_id FOR KEY SHARE
""")

TOTALS = text("""
    SELECT sums.total
    FROM unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
                CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
         WITH ORDINALITY AS wanted(tenant_id, metric, starts_at, ends_at, place)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(day.total), 0) AS total
        FROM usage_aggregates AS day
        WHERE day.tenant_id = wanted.tenant_id AND day.metric = wanted.metric
          AND day.granularity = 'day'
          AND day.period_start >= wanted.starts_at AND day.period_start < wanted.ends_at
    ) AS sums
    ORDER BY wanted.place
""")

DROPPED_DAYS = touched.append("""
    SELECT CAST(:tenant_id AS text) AS tenant_id, metric, period_start AS first_at,
           period_end - interval '1 microsecond' AS last_at
    FROM dropped WHERE granularity = 'day'
""")

REBUCKET = text(f"""
    WITH dropped AS (
        DELETE FROM usage_aggregates
        WHERE tenant_id = :tenant_id AND period_start >= coalesce(
            (SELECT closed_until FROM usage_horizons WHERE tenant_id = :tenant_id), '-infinity'
        )
        RETURNING metric, granularity, period_start, period_end, version
    ),
    quarters AS (
        DELETE FROM usage_quarter_hours
        WHERE tenant_id = :tenant_id AND starts_at >= coalesce(
            (SELECT closed_until FROM usage_horizons WHERE tenant_id = :tenant_id), '-infinity'
        )
    ),
    raised AS (
        UPDATE tenants
        SET usage_version = greatest(usage_version, (SELECT max(version) FROM dropped))
        WHERE tenant_id = :tenant_id
    )
    {DROPPED_DAYS}
""")  # noqa: S608 (constants)

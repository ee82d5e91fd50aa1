"""Closing usage: moving a tenant's horizon over months that no invoice can need any more.

Locks are taken in this order: meters, horizons, tenants.
"""

import datetime as dt
from collections.abc import Collection, Sequence

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules import period, retention
from models.store import horizon, meter, standing
from models.store.standing import Candidate, Rule

LONGEST_WAIT = dt.timedelta(seconds=2)
"""How long usage that arrives may wait for a horizon to be moved, at the most."""


def close(
    session: Session, rule: Rule, tenant_ids: Collection[str], *, now: dt.datetime
) -> list[Candidate]:
    """Move the horizons of tenants as far as they are settled, and return those that moved.

    Their events before it are due to be archived from now on, a month at a time. A tenant that
    somebody else works on, or that is behind, is left as it is. Call it in a transaction of its
    own.

    Raises:
        DBAPIError: usage is being recorded and did not pause: see `horizon.wait_for_holders`.
    """
    # A change of a meter that is under way has either touched what it leaves open, or is seen.
    meter.hold(session)
    horizon.wait_for_holders(session, patience=LONGEST_WAIT)
    # In full: no roll-up counts, no invoice is made and no zone changes until this has committed.
    locked = session.scalars(LOCK_TENANTS, {"tenant_ids": sorted(tenant_ids)}).all()
    moved = [
        one
        for one in standing.of_tenants(session, rule, locked, now=now)
        if one.is_settled and not one.is_behind
    ]
    if moved:
        session.execute(MOVE, {"rows": _horizons(moved), "now": now})
        session.execute(ADD_DUE, {"months": _months(moved), "metrics": _metrics(moved), "now": now})
        session.execute(DROP_QUARTER_HOURS, {"rows": _horizons(moved)})
    return moved


def months_of(one: Candidate) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return the months that are to be closed, as instants.

    One that lies across the horizon, which may be no midnight any more, begins there.
    """
    first = period.local_day(one.first_at, one.zone)
    months = [
        (period.local_midnight(start, one.zone), period.local_midnight(end, one.zone))
        for start, end in retention.months(first, one.settled.until)
    ]
    if one.closed_until is None:
        return months
    return [(max(start, one.closed_until), end) for start, end in months]


def count_events(session: Session, one: Candidate) -> int:
    """Return how many events would leave if a candidate were closed."""
    return int(
        session.execute(
            COUNT,
            {
                "tenant_id": one.tenant_id,
                "metrics": list(one.metrics),
                "starts_at": one.first_at,
                "ends_at": one.closes_at,
            },
        ).scalar_one()
    )


def _horizons(moved: Sequence[Candidate]) -> str:
    return orjson.dumps(
        [{"tenant_id": one.tenant_id, "closed_until": one.closes_at} for one in moved]
    ).decode()


def _months(moved: Sequence[Candidate]) -> str:
    return orjson.dumps(
        [
            {
                "tenant_id": one.tenant_id,
                "timezone": one.timezone,
                "starts_at": start,
                "ends_at": end,
            }
            for one in moved
            for start, end in months_of(one)
        ]
    ).decode()


def _metrics(moved: Sequence[Candidate]) -> str:
    return orjson.dumps(
        [{"tenant_id": one.tenant_id, "metric": name} for one in moved for name in one.metrics]
    ).decode()


LOCK_TENANTS = text("""
    SELECT tenant_id FROM tenants WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
    ORDER BY tenant_id FOR UPDATE SKIP LOCKED
""")

MOVE = text("""
    INSERT INTO usage_horizons (tenant_id, closed_until, updated_at)
    SELECT tenant_id, closed_until, :now
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS moved(
        tenant_id text, closed_until timestamptz)
    ON CONFLICT (tenant_id) DO UPDATE
    SET closed_until = excluded.closed_until, updated_at = excluded.updated_at
    WHERE usage_horizons.closed_until < excluded.closed_until
""")

# What is closed is not counted any more.
DROP_QUARTER_HOURS = text("""
    DELETE FROM usage_quarter_hours AS quarter
    USING jsonb_to_recordset(CAST(:rows AS jsonb)) AS moved(
        tenant_id text, closed_until timestamptz)
    WHERE quarter.tenant_id = moved.tenant_id AND quarter.starts_at < moved.closed_until
""")

# Months without events have nothing to archive.
ADD_DUE = text("""
    INSERT INTO usage_archives
        (tenant_id, period_start, period_end, timezone, created_at)
    SELECT month.tenant_id, month.starts_at, month.ends_at, month.timezone, :now
    FROM jsonb_to_recordset(CAST(:months AS jsonb)) AS month(
        tenant_id text, timezone text, starts_at timestamptz, ends_at timestamptz)
    WHERE EXISTS (
        SELECT FROM jsonb_to_recordset(CAST(:metrics AS jsonb)) AS used(
            tenant_id text, metric text)
        CROSS JOIN LATERAL (
            SELECT FROM usage_events AS event
            WHERE event.tenant_id = used.tenant_id AND event.metric = used.metric
              AND event.at >= month.starts_at AND event.at < month.ends_at
            LIMIT 1
        ) AS found
        WHERE used.tenant_id = month.tenant_id
    )
    ORDER BY month.tenant_id, month.starts_at
""")

COUNT = text("""
    SELECT count(*) FROM usage_events
    WHERE tenant_id = :tenant_id AND metric = ANY(CAST(:metrics AS text[]))
      AND at >= :starts_at AND at < :ends_at
""")

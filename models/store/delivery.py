"""Deliveries: what came of an attempt, leases given back or run out, and holding and cancelling."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from models.rules.states import DeliveryState


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP try as it is kept.

    Args:
        id: UUIDv7 of when it began.
        number: 1 is the first.
        outcome: the transport's word for how it ended.
        error: what went wrong, for the endpoint's owner.
        excerpt: the beginning of what the peer answered.
    """

    id: UUID
    at: dt.datetime
    number: int
    outcome: str
    status: int | None
    latency_ms: int
    error: str | None
    excerpt: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """What becomes of a leased delivery.

    Args:
        state: delivered, dead, or pending: to be tried again. A pending one is held instead when
            its endpoint has been disabled meanwhile, and cancelled when it has been deleted.
        due_at: when a pending one is due; None keeps when it was.
        spent: whether this used up one of its attempts.
        attempt: the HTTP try, or None if none was made.
    """

    delivery_id: int
    endpoint_id: UUID
    lease_token: UUID
    state: DeliveryState
    due_at: dt.datetime | None = None
    spent: bool = False
    attempt: Attempt | None = None


# An attempt is kept whoever holds the lease now: it was made (once: a commit whose answer was lost
# is written again). The delivery moves only for the
# holder of its lease. Rows are locked in the order of their ids here and wherever several are
# locked, so that two transactions can not deadlock.
_RECORD = text("""
    WITH result AS (
        SELECT * FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS r(
            delivery_id bigint, endpoint_id uuid, lease_token uuid, state text,
            due_at timestamptz, spent boolean, attempt_id uuid, attempted_at timestamptz,
            attempt_number smallint, outcome text, status smallint, latency_ms integer,
            error text, excerpt text)
    ), tried AS (
        INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, attempt_number,
            outcome, status, latency_ms, error, response_excerpt)
        SELECT attempt_id, attempted_at, delivery_id, endpoint_id, attempt_number,
            outcome, status, latency_ms, error, convert_to(excerpt, 'UTF8')
        FROM result WHERE attempt_id IS NOT NULL
        ON CONFLICT DO NOTHING
    ), mine AS (
        SELECT d.id, r.state, r.due_at, r.spent, e.state AS endpoint_state
        FROM deliveries d
        JOIN result r ON r.delivery_id = d.id AND r.lease_token = d.lease_token
        JOIN endpoints e ON e.id = r.endpoint_id
        WHERE d.id = ANY(CAST(:ids AS bigint[]))
        ORDER BY d.id
        FOR UPDATE OF d
    ), settled AS (
        SELECT id, due_at, spent, CASE
            WHEN state <> 'pending' OR endpoint_state = 'enabled' THEN state
            WHEN endpoint_state = 'disabled' THEN 'held' ELSE 'cancelled' END AS state
        FROM mine
    )
    UPDATE deliveries d
    SET state = settled.state,
        due_at = coalesce(settled.due_at, d.due_at),
        attempt_count = d.attempt_count + CAST(settled.spent AS integer),
        lease_token = NULL,
        leased_until = NULL,
        completed_at = CASE WHEN settled.state IN ('delivered', 'dead', 'cancelled')
                            THEN CAST(:now AS timestamptz) END
    FROM settled WHERE d.id = settled.id
    RETURNING d.id, d.state
""")


def record(
    session: Session, results: Sequence[Result], *, now: dt.datetime
) -> dict[int, DeliveryState]:
    """Write results back in one statement and return the new state of each that was accepted.

    A result whose lease has passed to somebody else moves nothing. The endpoints of results that
    are pending again must have been locked in this transaction (`endpoint.lock_health`).
    """
    if not results:
        return {}
    rows = session.execute(
        _RECORD,
        {
            "results": json.dumps([_row(result) for result in results]),
            "ids": [result.delivery_id for result in results],
            "now": now,
        },
    )
    return {row.id: DeliveryState(row.state) for row in rows}


_ENDPOINTS_OF_LOST_LEASES = text("""
    SELECT DISTINCT endpoint_id FROM (
        SELECT endpoint_id FROM deliveries
        WHERE state = 'sending' AND leased_until <= :now
        ORDER BY leased_until LIMIT :most) AS lost
""")

_LOCK_ENDPOINTS = text("""
    SELECT id FROM endpoints WHERE id = ANY(:endpoints)
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
""")

_RECLAIM = text("""
    WITH lost AS (
        SELECT d.id, e.state AS endpoint_state
        FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
        WHERE d.state = 'sending' AND d.leased_until <= :now AND d.endpoint_id = ANY(:endpoints)
        ORDER BY d.leased_until LIMIT :most
        FOR UPDATE OF d SKIP LOCKED
    )
    UPDATE deliveries d
    SET state = CASE lost.endpoint_state
            WHEN 'enabled' THEN 'pending' WHEN 'disabled' THEN 'held' ELSE 'cancelled' END,
        lease_token = NULL,
        leased_until = NULL,
        completed_at = CASE WHEN lost.endpoint_state = 'deleted'
                            THEN CAST(:now AS timestamptz) END
    FROM lost WHERE d.id = lost.id
    RETURNING d.id
""")


def reclaim(session: Session, *, most: int, now: dt.datetime) -> int:
    """Make deliveries pending again whose sender died; return how many.

    Args:
        most: deliveries at once; the longest lost first.
        now: leases that ended by then are lost. The clock that `claim` set them by.
    """
    lost = session.scalars(_ENDPOINTS_OF_LOST_LEASES, {"now": now, "most": most}).all()
    if not lost:
        return 0
    # Endpoints before deliveries, as everywhere; one that is busy is looked at the next time.
    locked = session.scalars(_LOCK_ENDPOINTS, {"endpoints": lost}).all()
    return len(session.scalars(_RECLAIM, {"endpoints": locked, "now": now, "most": most}).all())


_HOLD = text(
    """
    WITH open AS (
        SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND state = 'pending'
        ORDER BY id FOR UPDATE
    ), moved AS (
        UPDATE deliveries d SET state = 'held' FROM open WHERE d.id = open.id RETURNING 1
    )
    SELECT count(*) FROM moved
    """
)

_RELEASE = text(
    """
    WITH open AS (
        SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND state = 'held'
        ORDER BY id FOR UPDATE
    ), moved AS (
        UPDATE deliveries d SET state = 'pending', due_at = :now
        FROM open WHERE d.id = open.id RETURNING 1
    )
    SELECT count(*) FROM moved
    """
)

_CANCEL = text(
    """
    WITH open AS (
        SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND state IN ('pending', 'held')
        ORDER BY id FOR UPDATE
    ), moved AS (
        UPDATE deliveries d SET state = 'cancelled', completed_at = :now
        FROM open WHERE d.id = open.id RETURNING 1
    )
    SELECT count(*) FROM moved
    """
)


def hold(session: Session, endpoint_id: UUID) -> int:
    """Hold an endpoint's pending deliveries; return how many.

    Those under way are left to their sender, which holds them unless they arrive. The endpoint's
    row must be locked FOR UPDATE (`endpoint.lock`), here and in the two functions below.
    """
    return _moved(session, _HOLD, {"endpoint": endpoint_id})


def release(session: Session, endpoint_id: UUID, *, now: dt.datetime) -> int:
    """Make an endpoint's held deliveries due now; return how many."""
    return _moved(session, _RELEASE, {"endpoint": endpoint_id, "now": now})


def cancel(session: Session, endpoint_id: UUID, *, now: dt.datetime) -> int:
    """Cancel what an endpoint has waiting; return how many. Those under way end by themselves."""
    return _moved(session, _CANCEL, {"endpoint": endpoint_id, "now": now})


def _moved(session: Session, statement: TextClause, parameters: dict[str, Any]) -> int:
    return int(session.execute(statement, parameters).scalar_one())


def _row(result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {
        "delivery_id": result.delivery_id,
        "endpoint_id": str(result.endpoint_id),
        "lease_token": str(result.lease_token),
        "state": result.state,
        "due_at": None if result.due_at is None else result.due_at.isoformat(),
        "spent": result.spent,
    }
    if result.attempt is not None:
        row |= {
            "attempt_id": str(result.attempt.id),
            "attempted_at": result.attempt.at.isoformat(),
            "attempt_number": result.attempt.number,
            "outcome": result.attempt.outcome,
            "status": result.attempt.status,
            "latency_ms": result.attempt.latency_ms,
            "error": result.attempt.error,
            "excerpt": result.attempt.excerpt,
        }
    return row

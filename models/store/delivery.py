"""Deliveries: what came of an attempt, leases that ran out, and what an operator gives up."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import hot
from models.rules import ids
from models.rules.states import DeliveryState


# Tuples, as `claim.Claimed` is one: two of these are made for each delivery that is sent.
class Attempt(NamedTuple):
    """One HTTP try as it is kept.

    Args:
        at: when it began. Its id is made of this and of the delivery's: a delivery is tried by one
            sender at a time.
        number: 1 is the first.
        outcome: the transport's word for how it ended.
        error: what went wrong, for the endpoint's owner.
        excerpt: the beginning of what the peer answered.
    """

    at: dt.datetime
    number: int
    outcome: str
    status: int | None
    latency_ms: int
    error: str | None
    excerpt: str | None


class Result(NamedTuple):
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
# is written again). The delivery moves only for the holder of its lease, who ends it: nobody else
# does meanwhile but `reclaim`, which waits for nobody, so no order of locks is needed.
#
# ARRAY(…) has rows looked up by id, however few the planner thinks that the table has. IS TRUE
# keeps it from thinking that next to no result is accepted: it would compare each with each.
_RECORD = hot.statement("""
    WITH result AS MATERIALIZED (
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
    ), ended AS (
        DELETE FROM delivery_leases l USING result r
        WHERE l.delivery_id = ANY(ARRAY(SELECT delivery_id FROM result))
          AND l.delivery_id = r.delivery_id AND l.lease_token = r.lease_token
        RETURNING l.delivery_id, l.lease_token
    ), settled AS MATERIALIZED (
        SELECT delivery_id, due_at, spent, CASE
            WHEN r.state <> 'pending' THEN r.state ELSE (
                SELECT CASE e.state WHEN 'enabled' THEN 'pending' WHEN 'disabled' THEN 'held'
                    ELSE 'cancelled' END FROM endpoints e WHERE e.id = r.endpoint_id)
            END AS state
        FROM result r
        WHERE ((delivery_id, lease_token) IN (SELECT delivery_id, lease_token FROM ended)) IS TRUE
    )
    UPDATE deliveries d
    SET state = settled.state,
        due_at = coalesce(settled.due_at, d.due_at),
        attempt_count = d.attempt_count + CAST(settled.spent AS integer),
        completed_at = CASE WHEN settled.state IN ('delivered', 'dead', 'cancelled')
                            THEN CAST(:now AS timestamptz) END
    FROM settled
    WHERE d.id = ANY(ARRAY(SELECT delivery_id FROM ended)) AND d.id = settled.delivery_id
    RETURNING d.id, d.state
""")


# What arrived at once, and nearly everything does: sent as columns and not as JSON, which takes
# PostgreSQL four times as long to read. An attempt under a lease that is ended by this very
# statement was never written before, so nothing is looked for: that is half of what its row costs.
_ARRIVED = hot.statement("""
    WITH result AS MATERIALIZED (
        SELECT * FROM unnest(
            CAST(:deliveries AS bigint[]), CAST(:tokens AS uuid[]), CAST(:attempts AS uuid[]),
            CAST(:began AS timestamptz[]), CAST(:numbers AS smallint[]),
            CAST(:statuses AS smallint[]), CAST(:latencies AS integer[])
        ) AS r(delivery_id, lease_token, id, attempted_at, attempt_number, status, latency_ms)
    ), ended AS (
        DELETE FROM delivery_leases l USING result r
        WHERE l.delivery_id = r.delivery_id AND l.lease_token = r.lease_token
        RETURNING r.*, l.endpoint_id
    ), tried AS (
        INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, attempt_number,
            outcome, status, latency_ms)
        SELECT id, attempted_at, delivery_id, endpoint_id, attempt_number, 'delivered', status,
            latency_ms
        FROM ended
    )
    UPDATE deliveries d
    SET state = 'delivered', attempt_count = d.attempt_count + 1,
        completed_at = CAST(:now AS timestamptz)
    WHERE d.id = ANY(ARRAY(SELECT delivery_id FROM ended))
    RETURNING d.id
""")


def record(
    session: Session, results: Sequence[Result], *, now: dt.datetime
) -> dict[int, DeliveryState]:
    """Write results back and return the new state of each that was accepted.

    A result whose lease has passed to somebody else moves nothing. The endpoints of results that
    are pending again must have been locked in this transaction (`endpoint_health.lock`).
    """
    arrived, others = list[Result](), list[Result]()
    for one in results:
        (arrived if _has_just_arrived(one) else others).append(one)
    states = _record_arrived(session, arrived, now)
    if len(states) < len(arrived):
        # Of those that were refused the attempts are kept; the others' are there already.
        others += arrived
    return states | _record(session, others, now)


def _has_just_arrived(result: Result) -> bool:
    attempt = result.attempt
    return (
        attempt is not None
        and attempt.outcome == DeliveryState.delivered
        and result.state is DeliveryState.delivered
        and result.spent
        and result.due_at is None
        and attempt.error is None
        and attempt.excerpt is None
    )


def _record_arrived(
    session: Session, results: Sequence[Result], now: dt.datetime
) -> dict[int, DeliveryState]:
    if not results:
        return {}
    attempts = [one.attempt for one in results if one.attempt is not None]
    statuses = ["NULL" if one.status is None else str(one.status) for one in attempts]
    rows = hot.execute(
        session,
        _ARRIVED,
        {
            "deliveries": _array([str(one.delivery_id) for one in results]),
            "tokens": _array([one.lease_token.hex for one in results]),
            "attempts": _array(
                [
                    _attempt_id(one.delivery_id, one.attempt)
                    for one in results
                    if one.attempt is not None
                ]
            ),
            "began": _array([one.at.isoformat() for one in attempts]),
            "numbers": _array([str(one.number) for one in attempts]),
            "statuses": _array(statuses),
            "latencies": _array([str(one.latency_ms) for one in attempts]),
            "now": now,
        },
        binary=True,
    )
    return {delivery_id: DeliveryState.delivered for (delivery_id,) in rows}


def _array(values: Sequence[str]) -> str:
    """Write an array of what needs no quotes, in PostgreSQL's way: psycopg's takes ten times it."""
    return "{" + ",".join(values) + "}"


def _record(
    session: Session, results: Sequence[Result], now: dt.datetime
) -> dict[int, DeliveryState]:
    if not results:
        return {}
    rows = hot.execute(
        session,
        _RECORD,
        {
            "results": orjson.dumps([_row(result) for result in results]).decode(),
            "now": now,
        },
    )
    return {delivery_id: DeliveryState(state) for delivery_id, state in rows}


# Leases end by the database's clock, as `claim` set them: senders' clocks differ.
_ENDPOINTS_OF_LOST_LEASES = text("""
    SELECT DISTINCT endpoint_id FROM (
        SELECT endpoint_id FROM delivery_leases
        WHERE leased_until <= clock_timestamp()
        ORDER BY leased_until LIMIT :most) AS lost
""")

_LOCK_ENDPOINTS = text("""
    SELECT id FROM endpoints WHERE id = ANY(:endpoints)
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
""")

_RECLAIM = text("""
    WITH lost AS (
        DELETE FROM delivery_leases WHERE delivery_id = ANY(ARRAY(
            SELECT delivery_id FROM delivery_leases
            WHERE leased_until <= clock_timestamp() AND endpoint_id = ANY(:endpoints)
            ORDER BY leased_until LIMIT :most
            FOR UPDATE SKIP LOCKED))
        RETURNING delivery_id, endpoint_id
    ), followed AS (
        UPDATE deliveries d
        SET state = CASE e.state WHEN 'disabled' THEN 'held' ELSE 'cancelled' END,
            completed_at = CASE WHEN e.state = 'deleted' THEN CAST(:now AS timestamptz) END
        FROM lost JOIN endpoints e ON e.id = lost.endpoint_id
        WHERE d.id = lost.delivery_id AND e.state <> 'enabled'
    )
    SELECT delivery_id FROM lost
""")


def reclaim(session: Session, *, most: int, now: dt.datetime) -> int:
    """Make deliveries pending again whose lease has run out; return how many.

    Args:
        most: deliveries at once; the longest lost first.
        now: when those of deleted endpoints are cancelled.
    """
    lost = session.scalars(_ENDPOINTS_OF_LOST_LEASES, {"most": most}).all()
    if not lost:
        return 0
    # Endpoints before deliveries, as everywhere; one that is busy is looked at the next time.
    locked = session.scalars(_LOCK_ENDPOINTS, {"endpoints": lost}).all()
    return len(session.scalars(_RECLAIM, {"endpoints": locked, "now": now, "most": most}).all())


def _row(result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {
        "delivery_id": result.delivery_id,
        "endpoint_id": result.endpoint_id,
        "lease_token": result.lease_token,
        "state": result.state,
        "due_at": result.due_at,
        "spent": result.spent,
    }
    attempt = result.attempt
    if attempt is not None:
        row["attempt_id"] = _attempt_id(result.delivery_id, attempt)
        row["attempted_at"] = attempt.at
        row["attempt_number"] = attempt.number
        row["outcome"] = attempt.outcome
        row["status"] = attempt.status
        row["latency_ms"] = attempt.latency_ms
        if attempt.error is not None:
            row["error"] = attempt.error
        if attempt.excerpt is not None:
            row["excerpt"] = attempt.excerpt
    return row


def _attempt_id(delivery_id: int, attempt: Attempt) -> str:
    return ids.uuid7_hex(attempt.at, delivery_id)

"""Taking due deliveries to send: endpoints first, then a few rows of each.

Rows in one long due-first queue would let one dead endpoint with half a million rows stand in front
of everybody. Here it costs what any other endpoint costs: one look at one index entry.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Terms:
    """How much one claim may take.

    Args:
        rows: deliveries at once, at least 1.
        per_endpoint: deliveries of one endpoint that may be under way, whoever sends them.
        probe_after: failures in a row from which an endpoint gets one delivery at a time.
    """

    rows: int
    per_endpoint: int
    probe_after: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery leased to one sender, with all it takes to send it. Its repr shows no contents."""

    delivery_id: int
    lease_token: UUID
    leased_until: dt.datetime
    attempt_count: int
    message_id: UUID
    type: str
    schema_version: int
    body: bytes = field(repr=False)
    endpoint_id: UUID
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    sealed: Sequence[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim took, and the endpoint it came to: the next one goes on behind it."""

    rows: Sequence[Claimed]
    cursor: UUID | None
    """None when it came to the last endpoint."""


# The scalar subquery is on purpose: an EXISTS could become a join that reads all that is due. So it
# is one probe of ix_deliveries_due an endpoint, however many rows wait there. NO KEY UPDATE does
# not stand in the way of the foreign keys that a fan-out checks.
_LOCK_ENDPOINTS = text("""
    SELECT e.id, e.url, e.headers,
           CASE WHEN e.consecutive_failures >= :probe_after THEN 1 ELSE :per_endpoint END AS lanes
    FROM endpoints e
    WHERE e.id > :cursor AND e.state = 'enabled'
      AND (e.hold_until IS NULL OR e.hold_until <= :now)
      AND e.id <> ALL(ARRAY(
          SELECT endpoint_id FROM deliveries WHERE state = 'sending'
          GROUP BY endpoint_id HAVING count(*) >= :per_endpoint))
      AND (SELECT true FROM deliveries d
           WHERE d.endpoint_id = e.id AND d.state = 'pending' AND d.due_at <= :now LIMIT 1)
    ORDER BY e.id
    LIMIT :rows
    FOR NO KEY UPDATE OF e SKIP LOCKED
""")

# A statement of its own: it sees what the last holder of these endpoints' locks has committed, so
# the count of what is under way is exact. ARRAY(…) makes the update look rows up by their id.
# Secrets come newest first: the key that a receiver moves to signs even when there are too many.
_LEASE = text("""
    WITH busy AS (
        SELECT endpoint_id, count(*) AS lanes FROM deliveries
        WHERE state = 'sending' GROUP BY endpoint_id
    ), chosen AS (
        SELECT e.id, greatest(0, e.lanes - coalesce(busy.lanes, 0)) AS room
        FROM unnest(CAST(:endpoints AS uuid[]), CAST(:lanes AS integer[])) AS e(id, lanes)
        LEFT JOIN busy ON busy.endpoint_id = e.id
        ORDER BY e.id
    ), leased AS (
        UPDATE deliveries
        SET state = 'sending', lease_token = :token, leased_until = :until
        WHERE id = ANY(ARRAY(
            SELECT due.id FROM chosen CROSS JOIN LATERAL (
                SELECT d.id FROM deliveries d
                WHERE d.endpoint_id = chosen.id AND d.state = 'pending' AND d.due_at <= :now
                ORDER BY d.due_at, d.id
                LIMIT chosen.room
                FOR UPDATE SKIP LOCKED) AS due
            LIMIT :rows))
        RETURNING id, message_id, endpoint_id, attempt_count, due_at
    )
    SELECT leased.id, leased.message_id, leased.endpoint_id, leased.attempt_count,
           m.type, m.schema_version, m.body,
           ARRAY(SELECT s.sealed FROM endpoint_secrets s
                 WHERE s.endpoint_id = leased.endpoint_id
                   AND (s.expires_at IS NULL OR s.expires_at > :now)
                 ORDER BY s.created_at DESC, s.id) AS sealed
    FROM leased JOIN outbox_messages m ON m.id = leased.message_id
    ORDER BY leased.due_at, leased.id
""")

_BEFORE_ALL = UUID(int=0)


def claim(
    session: Session,
    *,
    terms: Terms,
    cursor: UUID | None,
    token: UUID,
    until: dt.datetime,
    now: dt.datetime,
) -> Claim:
    """Lease due deliveries of enabled endpoints to the caller and return them, oldest due first.

    Args:
        terms: how many.
        cursor: the endpoint the last claim came to; None begins at the first.
        token: names this claim; results are written back under it alone.
        until: when the lease ends and somebody else may send them.
        now: what is due then is taken.
    """
    endpoints = _lock_endpoints(session, terms, cursor or _BEFORE_ALL, now)
    if not endpoints:
        return Claim([], None)
    leased = session.execute(
        _LEASE,
        {
            "endpoints": list(endpoints),
            "lanes": [row.lanes for row in endpoints.values()],
            "rows": terms.rows,
            "token": token,
            "until": until,
            "now": now,
        },
    ).all()
    rows = [
        Claimed(
            delivery_id=row.id,
            lease_token=token,
            leased_until=until,
            attempt_count=row.attempt_count,
            message_id=row.message_id,
            type=row.type,
            schema_version=row.schema_version,
            body=row.body,
            endpoint_id=row.endpoint_id,
            url=endpoints[row.endpoint_id].url,
            headers=endpoints[row.endpoint_id].headers,
            sealed=row.sealed,
        )
        for row in leased
    ]
    return Claim(rows, _next_cursor(terms, list(endpoints), rows))


def _lock_endpoints(
    session: Session, terms: Terms, cursor: UUID, now: dt.datetime
) -> dict[UUID, Any]:
    found = session.execute(
        _LOCK_ENDPOINTS,
        {
            "cursor": cursor,
            "rows": terms.rows,
            "per_endpoint": terms.per_endpoint,
            "probe_after": terms.probe_after,
            "now": now,
        },
    )
    return {row.id: row for row in found}


def _next_cursor(terms: Terms, locked: list[UUID], rows: Sequence[Claimed]) -> UUID | None:
    """Where the next claim goes on: behind the last endpoint that had its turn."""
    if len(rows) >= terms.rows:
        return max(row.endpoint_id for row in rows)
    return locked[-1] if len(locked) >= terms.rows else None

"""How endpoints are doing, kept beside them; written by whoever holds an endpoint's lock."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.states import EndpointState


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint is doing.

    Args:
        hold_until: it is left alone until then.
        probe_at: its circuit is open: left alone until then, and then one attempt goes to see.
        single: one attempt at a time.
        review_at: when its condition is to be judged again though nothing happens; only while it
            has failed since its last success.
        condition: what the rules know of it, for them alone.
    """

    hold_until: dt.datetime | None = None
    probe_at: dt.datetime | None = None
    single: bool = False
    review_at: dt.datetime | None = None
    condition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Locked:
    """An endpoint that this transaction has locked; `tenant_id` is None for the operator's."""

    endpoint_id: UUID
    tenant_id: str | None
    state: EndpointState
    health: Health


# As text: an expression with a parameter an endpoint took SQLAlchemy longer to write than it took
# PostgreSQL to run, and this is part of every exchange of the sender.
_LOCK = text("""
    SELECT id FROM endpoints WHERE id = ANY(CAST(:endpoints AS uuid[]))
    ORDER BY id
    FOR NO KEY UPDATE
""")

_LOCK_DUE_FOR_REVIEW = text("""
    SELECT e.id FROM endpoint_health h JOIN endpoints e ON e.id = h.endpoint_id
    WHERE h.review_at <= :now AND e.state = 'enabled'
    ORDER BY e.id LIMIT :most
    FOR NO KEY UPDATE OF e SKIP LOCKED
""")

# A statement of its own, after the lock: it sees what the last holder has written.
_READ = text("""
    SELECT e.id, e.tenant_id, e.state, h.hold_until, h.probe_at,
           coalesce(h.single, false) AS single, h.review_at,
           coalesce(h.condition, '{}') AS condition
    FROM endpoints e LEFT JOIN endpoint_health h ON h.endpoint_id = e.id
    WHERE e.id = ANY(CAST(:endpoints AS uuid[]))
""")

_KEEP = text("""
    INSERT INTO endpoint_health AS h
        (endpoint_id, hold_until, probe_at, single, review_at, condition)
    SELECT * FROM jsonb_to_recordset(CAST(:health AS jsonb)) AS given(
        endpoint_id uuid, hold_until timestamptz, probe_at timestamptz, single boolean,
        review_at timestamptz, condition jsonb)
    ON CONFLICT (endpoint_id) DO UPDATE SET
        hold_until = excluded.hold_until, probe_at = excluded.probe_at, single = excluded.single,
        review_at = excluded.review_at, condition = excluded.condition
""")


def lock(session: Session, endpoint_ids: Collection[UUID]) -> dict[UUID, Locked]:
    """Lock endpoints in the order of their ids and return those that there are."""
    if not endpoint_ids:
        return {}
    found = session.scalars(_LOCK, {"endpoints": list(endpoint_ids)}).all()
    return _read(session, found)


def lock_due_for_review(session: Session, *, most: int, now: dt.datetime) -> dict[UUID, Locked]:
    """Lock enabled endpoints whose condition is to be judged again, and return them.

    Args:
        most: endpoints at once. One that somebody else has locked is left to him.
    """
    return _read(session, session.scalars(_LOCK_DUE_FOR_REVIEW, {"most": most, "now": now}).all())


def keep(session: Session, health: Mapping[UUID, Health]) -> None:
    """Store the health of endpoints that this transaction has locked."""
    if health:
        rows = [_row(endpoint_id, known) for endpoint_id, known in health.items()]
        session.execute(_KEEP, {"health": orjson.dumps(rows).decode()})


def find(session: Session, endpoint_ids: Collection[UUID]) -> dict[UUID, Health]:
    """Return the health of endpoints, without a lock; a fresh one where nothing is known."""
    if not endpoint_ids:
        return {}
    return {key: known.health for key, known in _read(session, list(endpoint_ids)).items()}


def forget(session: Session, endpoint_id: UUID) -> None:
    """Let a locked endpoint begin anew: neither holds nor failures are left."""
    session.execute(
        text("DELETE FROM endpoint_health WHERE endpoint_id = :endpoint"), {"endpoint": endpoint_id}
    )


def _read(session: Session, endpoint_ids: Sequence[UUID]) -> dict[UUID, Locked]:
    if not endpoint_ids:
        return {}
    return {
        row.id: Locked(
            row.id,
            row.tenant_id,
            EndpointState(row.state),
            Health(row.hold_until, row.probe_at, row.single, row.review_at, row.condition),
        )
        for row in session.execute(_READ, {"endpoints": list(endpoint_ids)})
    }


def _row(endpoint_id: UUID, known: Health) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint_id,
        "hold_until": known.hold_until,
        "probe_at": known.probe_at,
        "single": known.single,
        "review_at": known.review_at,
        "condition": dict(known.condition),
    }

"""How an endpoint's deliveries follow its state: held while it is disabled, due again, cancelled.

An endpoint may have half a million of them. So a change of state moves a chunk, and marks the
endpoint *unsettled* if there are more: senders move the rest, a chunk a transaction, and nobody
waits for that. Whatever its deliveries say meanwhile, only an enabled endpoint is sent anything.
"""

import datetime as dt
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.states import EndpointState
from models.store.delivery_lease import IS_LEASED

CHUNK: Final = 2_000
"""Deliveries moved in one transaction: some tens of milliseconds under the endpoint's lock."""

_MOVE = """
    WITH open AS (
        SELECT d.id, e.ordered FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
        WHERE d.endpoint_id = :endpoint AND {which} LIMIT :most
        FOR UPDATE OF d
    )
    UPDATE deliveries d SET {change} FROM open WHERE d.id = open.id
    RETURNING d.id
"""

# Each in the order of its index, so that a chunk costs the same however many there are.
_PENDING = f"d.state = 'pending' AND NOT {IS_LEASED} ORDER BY d.due_at, d.id"
_HELD = "d.state = 'held' ORDER BY d.id"

_HOLD = "state = 'held'"
# To an ordered endpoint a delivery is due since its message was written, also if the endpoint was
# none when it was held: that is its place in the order.
_RELEASE = """
    state = 'pending', due_at = CASE WHEN open.ordered THEN (
        SELECT created_at FROM outbox_messages WHERE id = d.message_id) ELSE :now END
"""
_CANCEL = "state = 'cancelled', completed_at = :now"

_MOVES: Final = {
    EndpointState.disabled: (text(_MOVE.format(which=_PENDING, change=_HOLD)),),
    EndpointState.enabled: (text(_MOVE.format(which=_HELD, change=_RELEASE)),),
    EndpointState.deleted: (
        text(_MOVE.format(which=_PENDING, change=_CANCEL)),
        text(_MOVE.format(which=_HELD, change=_CANCEL)),
    ),
}

# With FOR UPDATE the change of state has waited for every fan-out that chose by the old one; this
# lock is against other senders and further changes alone.
_LOCK_UNSETTLED = text("""
    SELECT id, state FROM endpoints WHERE unsettled
    ORDER BY id LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
""")

_MARK = text("UPDATE endpoints SET unsettled = :unsettled WHERE id = :endpoint")


def begin(session: Session, endpoint_id: UUID, *, now: dt.datetime) -> None:
    """Let deliveries follow the new state of an endpoint that is locked FOR UPDATE.

    Those under way are left to their sender, which holds or cancels them unless they arrive.

    Args:
        now: when those that were held are due, or those that are cancelled were completed.
    """
    state = session.scalar(
        text("SELECT state FROM endpoints WHERE id = :endpoint"), {"endpoint": endpoint_id}
    )
    _follow(session, endpoint_id, EndpointState(state), now=now)


def go_on(session: Session, *, now: dt.datetime) -> int:
    """Move a chunk of some unsettled endpoint's deliveries; return how many."""
    row = session.execute(_LOCK_UNSETTLED).first()
    if row is None:
        return 0
    return _follow(session, row.id, EndpointState(row.state), now=now)


def _follow(session: Session, endpoint_id: UUID, state: EndpointState, *, now: dt.datetime) -> int:
    asked = {"endpoint": endpoint_id, "most": CHUNK, "now": now}
    moved = [len(session.scalars(move, asked).all()) for move in _MOVES[state]]
    session.execute(_MARK, {"endpoint": endpoint_id, "unsettled": CHUNK in moved})
    return sum(moved)

"""Deleting what was told long ago, and nothing that is still owed.

An event is owed while it waits to be relayed, or while a delivery of it waits, is under way or is
held, however old it is. A dead delivery is kept for a time of its own, and its event with it.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules import ids

CHUNK: Final = 1_000
"""Events, or dead deliveries, that one transaction deletes."""

MOST_DEAD: Final = 50_000
"""Dead deliveries that one look finds."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What a chunk came to: `last` is where the next one goes on, None at the end."""

    events: int
    deliveries: int
    last: UUID | None


_DEAD = text("""
    SELECT id FROM deliveries WHERE state = 'dead' AND completed_at < :before
    ORDER BY endpoint_id, id LIMIT :most
""")

# What a replay has brought back meanwhile is no longer dead, and stays.
_DELETE_DEAD = text("""
    DELETE FROM deliveries
    WHERE id = ANY(CAST(:ids AS bigint[])) AND state = 'dead' AND completed_at < :before
    RETURNING id
""")

# Ids begin with the time: those before an instant are the first of the primary key.
_OLD = text("""
    SELECT id FROM outbox_messages WHERE id > :after AND id < :floor AND created_at < :before
    ORDER BY id LIMIT :most
""")

_MAY_GO = "(d.state IN ('delivered', 'cancelled') OR d.state = 'dead' AND d.completed_at < :dead)"

# FOR UPDATE: nobody makes a delivery of these from here on.
_LOCK = text(f"""
    SELECT id FROM outbox_messages m WHERE id = ANY(CAST(:ids AS uuid[]))
      AND NOT EXISTS (SELECT FROM outbox_pending p WHERE p.message_id = m.id)
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id AND NOT {_MAY_GO})
    ORDER BY id FOR UPDATE SKIP LOCKED
""")  # noqa: S608 (a constant)

_DELETE_DELIVERIES = text(f"""
    DELETE FROM deliveries d WHERE d.message_id = ANY(CAST(:ids AS uuid[])) AND {_MAY_GO}
    RETURNING d.id
""")  # noqa: S608 (a constant)

# A statement of its own: it sees a delivery that a replay has brought back since the lock.
_DELETE_EVENTS = text("""
    DELETE FROM outbox_messages m WHERE id = ANY(CAST(:ids AS uuid[]))
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id)
    RETURNING id
""")


def find_dead(session: Session, *, before: dt.datetime) -> Sequence[int]:
    """Return deliveries that died before an instant, at most 50,000."""
    return session.scalars(_DEAD, {"before": before, "most": MOST_DEAD}).all()


def delete_dead(session: Session, delivery_ids: Sequence[int], *, before: dt.datetime) -> int:
    """Delete deliveries that are still dead and died before an instant; return how many."""
    gone = session.scalars(_DELETE_DEAD, {"ids": list(delivery_ids), "before": before})
    return len(gone.all())


def delete_events(
    session: Session, *, after: UUID, before: dt.datetime, dead_before: dt.datetime
) -> Purged:
    """Delete a chunk of the events that happened before an instant and are not owed any more.

    Their deliveries go with them.

    Args:
        after: the last of the chunk before.
        dead_before: a delivery that died later keeps its event.
    """
    floor = ids.uuid7(before, 0)
    asked = {"after": after, "floor": floor, "before": before, "most": CHUNK}
    page = session.scalars(_OLD, asked).all()
    if not page:
        return Purged(0, 0, None)
    free = session.scalars(_LOCK, {"ids": list(page), "dead": dead_before}).all()
    terms = {"ids": list(free), "dead": dead_before}
    deliveries = len(session.scalars(_DELETE_DELIVERIES, terms).all()) if free else 0
    events = len(session.scalars(_DELETE_EVENTS, {"ids": list(free)}).all()) if free else 0
    return Purged(events, deliveries, page[-1] if len(page) == CHUNK else None)

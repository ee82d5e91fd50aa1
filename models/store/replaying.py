"""Deliveries sent again by an operator, under the same id: one, or those of an endpoint.

Messages that an endpoint asks for and has no delivery of are in `replay_missing`.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.rules.states import DeliveryState
from models.store import delivery_lease, delivery_page, endpoint
from models.store.delivery_lease import IS_LEASED
from models.store.skipping import STANDS_FIRST

MOST: Final = 2_000
"""Deliveries moved in one transaction: some tens of milliseconds under the endpoint's lock."""


LAST: Final = 2**63 - 1
"""No delivery has a higher id."""


class NotReplayable(Refusal):
    """The delivery was given up, or is held: there is nothing to send again."""

    code: ClassVar[str] = "delivery.not_replayable"


# Done under the endpoint's lock. An attempt series begins anew, but what still waits for its next
# attempt is only brought forward. An ordered endpoint's waiting ones keep their place.
_REPLAY = text(f"""
    WITH wanted AS (
        SELECT d.id, e.ordered FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
        WHERE d.id = ANY(CAST(:deliveries AS bigint[]))
          AND d.state IN ('pending', 'delivered', 'dead') AND NOT {IS_LEASED}
        ORDER BY d.id FOR UPDATE OF d
    )
    UPDATE deliveries d
    SET state = 'pending',
        due_at = CASE WHEN d.state = 'pending' THEN
                CASE WHEN wanted.ordered THEN d.due_at ELSE least(d.due_at, :now) END
            ELSE least(CAST(:now AS timestamptz), statement_timestamp()) END,
        attempt_count = CASE WHEN d.state = 'pending' THEN d.attempt_count ELSE 0 END,
        replayed_at = CASE WHEN d.state = 'pending' THEN d.replayed_at ELSE :now END,
        completed_at = NULL
    FROM wanted WHERE d.id = wanted.id
    RETURNING d.id
""")  # noqa: S608 (a constant)

# An ordered endpoint stands still for its oldest, and so the wait for that one is its hold.
_GO_ON = text(f"""
    UPDATE endpoint_health h SET hold_until = NULL
    FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = :delivery AND d.state = 'pending' AND NOT {IS_LEASED} AND {STANDS_FIRST}
      AND h.endpoint_id = e.id
""")  # noqa: S608 (a constant)

# BETWEEN, and the order by endpoint, as in delivery_page: by the endpoint's own index.
_NEXT = """
    SELECT id FROM endpoints WHERE id > :after AND state = 'enabled' {owner} ORDER BY id LIMIT :most
"""

_CHOOSE = """
    SELECT d.id, d.state FROM deliveries d JOIN outbox_messages m ON m.id = d.message_id
    WHERE d.endpoint_id BETWEEN :endpoint AND :endpoint AND d.id > :after AND ({states})
      AND m.created_at >= :since AND (CAST(:until AS timestamptz) IS NULL OR m.created_at < :until)
      AND (CAST(:type AS text) IS NULL OR m.type = :type)
    ORDER BY d.endpoint_id, d.id LIMIT :most
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries of an endpoint are to be sent again.

    Args:
        states: dead, delivered, or pending: those that wait for their next attempt.
        since: of events that happened then or later.
        until: of events that happened before; None for no end.
        type: of the event; None for any.
    """

    endpoint_id: UUID
    states: Collection[DeliveryState]
    since: dt.datetime
    until: dt.datetime | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Deliveries of a chunk by their ids, with their states before.

    Args:
        last: the last that was looked at, None if there was none.
        is_full: whether there may be more behind it.
    """

    by_id: Mapping[int, DeliveryState]
    last: int | None
    is_full: bool


def replay(
    session: Session, delivery_id: int, *, tenant_id: str | None, now: dt.datetime
) -> delivery_page.Found:
    """Let one delivery be sent now, and return it as it is then.

    One that is delivered or dead gets a full series of attempts; one that waits for its next
    attempt is due now, also if an ordered endpoint stands still for it; of one that is being sent
    nothing changes.

    Args:
        tenant_id: when given, only a delivery to this tenant's endpoints is found.

    Raises:
        UnknownDelivery: there is none by that id.
        EndpointNotEnabled: its endpoint is disabled.
        UnknownEndpoint: its endpoint was deleted.
        NotReplayable: it was skipped or cancelled, or is held.
    """
    before, _ = delivery_page.get(session, delivery_id, tenant_id=tenant_id)
    endpoint.lock_enabled(session, before.endpoint_id)
    session.execute(_REPLAY, {"deliveries": [delivery_id], "now": now})
    session.execute(_GO_ON, {"delivery": delivery_id})
    after, _ = delivery_page.get(session, delivery_id, tenant_id=tenant_id)
    if after.state not in {DeliveryState.pending, DeliveryState.sending}:
        raise NotReplayable(
            f"delivery {delivery_id} is {after.state}; one that is dead, delivered or pending can "
            "be sent again",
            field="delivery_id",
        )
    return after


def count_some(session: Session, wanted: Wanted, *, after: int, most: int) -> Chosen:
    """Return what `replay_some` would send again, without sending anything."""
    return _choose(session, wanted, after=after, most=most)


def replay_some(
    session: Session,
    wanted: Wanted,
    *,
    tenant_id: str | None,
    after: int,
    most: int,
    now: dt.datetime,
) -> Chosen:
    """Let deliveries of an endpoint be sent now; return which.

    Args:
        after: only those made after the one with this id.
        most: how many at once, up to 2,000.

    Raises:
        EndpointNotEnabled: it is disabled.
        UnknownEndpoint: there is none by that id, or it was deleted.
    """
    endpoint.lock_enabled(session, wanted.endpoint_id, tenant_id=tenant_id)
    chosen = _choose(session, wanted, after=after, most=most)
    if chosen.last is None:
        return chosen
    # One that a sender has taken since is sent anyway, and is not counted.
    moved = set(session.scalars(_REPLAY, {"deliveries": list(chosen.by_id), "now": now}))
    by_id = {key: state for key, state in chosen.by_id.items() if key in moved}
    return Chosen(by_id, chosen.last, chosen.is_full)


def enabled_endpoints(
    session: Session, *, tenant_id: str | None, after: UUID, most: int
) -> list[UUID]:
    """Return the ids of enabled endpoints in order, of a tenant or of everybody.

    Args:
        after: only those behind this one.
    """
    owner = "" if tenant_id is None else "AND tenant_id = :tenant"
    asked = {"after": after, "most": most} | ({} if tenant_id is None else {"tenant": tenant_id})
    return list(session.scalars(text(_NEXT.format(owner=owner)), asked))


def _choose(session: Session, wanted: Wanted, *, after: int, most: int) -> Chosen:
    states = " OR ".join(delivery_lease.is_in(state) for state in sorted(wanted.states))
    most = min(most, MOST)
    rows = session.execute(
        text(_CHOOSE.format(states=states)),
        {
            "endpoint": wanted.endpoint_id,
            "after": after,
            "since": wanted.since,
            "until": wanted.until,
            "type": wanted.type,
            "most": most,
        },
    ).all()
    by_id = {row.id: DeliveryState(row.state) for row in rows}
    return Chosen(by_id, rows[-1].id if rows else None, len(rows) == most)

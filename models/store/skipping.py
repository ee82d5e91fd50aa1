"""Giving up a delivery that shall not be sent: what an operator does when one stands in the way."""

import datetime as dt
from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.rules.states import SKIPPABLE_DELIVERY_STATES, DeliveryState
from models.store import endpoint
from models.store.delivery_lease import STATE


class UnknownDelivery(Refusal):
    """There is no such delivery, or it belongs to another tenant."""

    code: ClassVar[str] = "delivery.unknown"


class DeliveryUnderWay(Refusal):
    """The delivery is being sent at this moment."""

    code: ClassVar[str] = "delivery.under_way"


class DeliveryArrived(Refusal):
    """The delivery has arrived: there is nothing to skip."""

    code: ClassVar[str] = "delivery.arrived"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A delivery that was given up; `now` tells whether it was just now."""

    delivery_id: int
    endpoint_id: UUID
    message_id: UUID
    now: bool


_FIND = text("""
    SELECT d.endpoint_id FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = :delivery AND e.tenant_id IS NOT DISTINCT FROM
        coalesce(CAST(:tenant AS text), e.tenant_id)
""")

STANDS_FIRST: Final = """
    e.ordered AND NOT EXISTS (
        SELECT FROM deliveries other
        WHERE other.endpoint_id = d.endpoint_id AND other.state = 'pending'
          AND (other.due_at, other.id) < (d.due_at, d.id)
          AND NOT EXISTS (SELECT FROM delivery_leases WHERE delivery_id = other.id))
"""
"""Of a delivery `d` to an endpoint `e`, in SQL: an ordered endpoint, whose others wait for it."""

# Read under the endpoint's lock: only a sender that has leased it moves it then.
_READ = text(f"""
    SELECT d.message_id, {STATE} AS state, {STANDS_FIRST} AS stands_first
    FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = :delivery
    FOR UPDATE OF d
""")  # noqa: S608 (a constant)

_SKIP = text("""
    UPDATE deliveries SET state = 'cancelled', skip_reason = :reason, completed_at = :now
    WHERE id = :delivery
""")

_GO_ON = text("UPDATE endpoint_health SET hold_until = NULL WHERE endpoint_id = :endpoint")


def skip(
    session: Session, *, delivery_id: int, tenant_id: str | None, reason: str, now: dt.datetime
) -> Skipped:
    """Give up a delivery that waits, is held or is dead; one that was given up stays so.

    An ordered endpoint that stood still for it goes on.

    Args:
        tenant_id: when given, only a delivery to this tenant's endpoints is found.
        reason: kept beside it.

    Raises:
        UnknownDelivery: there is none by that id.
        DeliveryUnderWay: an attempt is being made.
        DeliveryArrived: it was delivered.
    """
    wanted = {"delivery": delivery_id, "tenant": tenant_id}
    endpoint_id = session.scalar(_FIND, wanted)
    if endpoint_id is None:
        raise UnknownDelivery(
            f"delivery_id {delivery_id} is unknown"
            + (f" to tenant {tenant_id!r}" if tenant_id is not None else ""),
            field="delivery_id",
        )
    endpoint.lock(session, endpoint_id)
    row = session.execute(_READ, {"delivery": delivery_id}).one()
    state = DeliveryState(row.state)
    _refuse(delivery_id, state)
    if state in SKIPPABLE_DELIVERY_STATES:
        session.execute(_SKIP, {"delivery": delivery_id, "reason": reason, "now": now})
        if row.stands_first:
            session.execute(_GO_ON, {"endpoint": endpoint_id})
    return Skipped(delivery_id, endpoint_id, row.message_id, state in SKIPPABLE_DELIVERY_STATES)


def _refuse(delivery_id: int, state: DeliveryState) -> None:
    if state is DeliveryState.sending:
        raise DeliveryUnderWay(
            f"delivery {delivery_id} is being sent; skip it when the attempt has ended",
            field="delivery_id",
        )
    if state is DeliveryState.delivered:
        raise DeliveryArrived(
            f"delivery {delivery_id} has arrived; there is nothing to skip", field="delivery_id"
        )

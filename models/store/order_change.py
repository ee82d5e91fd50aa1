"""Orders moved along their life. The caller has locked the order."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import order as tables
from models.rules import order as rules
from models.rules.order import Line, Order, Payment
from models.rules.refusal import Refusal
from models.store import order as orders


class PaymentTaken(Refusal):
    """The payment has confirmed another order."""

    code: ClassVar[str] = "order.payment_conflict"


class OrderMoved(Refusal):
    """Somebody who did not hold its lock changed the order meanwhile."""

    code: ClassVar[str] = "order.moved"


def enter_payment(session: Session, order: Order, payment: Payment, *, now: dt.datetime) -> None:
    """Enter the payment of a locked order that has none.

    Raises:
        PaymentTaken: it is another order's, perhaps since just now.
    """
    entered = session.scalars(
        insert(tables.OrderPayment)
        .values(
            payment_method=payment.method,
            payment_id=payment.payment_id,
            order_id=order.id,
            currency=order.currency,
            amount_minor=order.total_minor,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["payment_method", "payment_id"])
        .returning(tables.OrderPayment.order_id)
    ).one_or_none()
    if entered is None:
        raise PaymentTaken(
            f"payment {payment.payment_id!r} by {payment.method!r} has confirmed another order; "
            "each order needs a payment of its own",
            field="payment_id",
        )


def pay(
    session: Session, order: Order, batch_ids: Sequence[Sequence[UUID]], *, now: dt.datetime
) -> Order:
    """Make a locked order paid, with the batches each line became, and return it as it is now."""
    for position, made in enumerate(batch_ids, start=1):
        for nth, batch_id in enumerate(made, start=1):
            _change_grant(session, order, position, nth, {"batch_id": batch_id})
    return _move(session, order, "pay", {"paid_at": now}, now)


def cancel(
    session: Session, order: Order, *, reason: str | None, actor: str, now: dt.datetime
) -> Order:
    """Make a locked order cancelled and return it as it is now."""
    why = {"cancelled_at": now, "closing_reason": reason, "closed_by": actor}
    return _move(session, order, "cancel", why, now)


def refund(
    session: Session,
    order: Order,
    found: Sequence[Line],
    *,
    reason: str,
    actor: str,
    now: dt.datetime,
) -> Order:
    """Make a locked order refunded and return it as it is now.

    Args:
        found: its lines, with what is refundable of each and what was found of each batch.
    """
    for position, line in enumerate(found, start=1):
        session.execute(
            update(tables.OrderItem)
            .where(tables.OrderItem.order_id == order.id, tables.OrderItem.position == position)
            .values(refundable_minor=line.refundable_minor)
        )
        for nth, grant in enumerate(line.grants, start=1):
            amounts = {
                "revoked_amount": grant.revoked,
                "held_amount": grant.held,
                "lapsed_amount": grant.lapsed,
            }
            _change_grant(session, order, position, nth, amounts)
    values = {
        "refunded_at": now,
        "refundable_minor": sum(line.refundable_minor or 0 for line in found),
        "closing_reason": reason,
        "closed_by": actor,
    }
    return _move(session, order, "refund", values, now)


def _move(
    session: Session, order: Order, event: str, values: dict[str, Any], now: dt.datetime
) -> Order:
    """Compare and set: the row is still in the state and version that `order` shows."""
    target = rules.next_state(order, event)
    moved = session.scalars(
        update(tables.Order)
        .where(
            tables.Order.id == order.id,
            tables.Order.state == order.state.value,
            tables.Order.version == order.version,
        )
        .values(state=target.value, version=order.version + 1, updated_at=now, **values)
        .returning(tables.Order.id)
    ).one_or_none()
    if moved is None:
        raise OrderMoved(
            f"order {order.id} was changed by somebody else meanwhile; send it again",
            field="order_id",
        )
    return orders.get(session, order.id)


def _change_grant(
    session: Session, order: Order, position: int, nth: int, values: dict[str, Any]
) -> None:
    session.execute(
        update(tables.OrderGrant)
        .where(
            tables.OrderGrant.order_id == order.id,
            tables.OrderGrant.position == position,
            tables.OrderGrant.nth == nth,
        )
        .values(**values)
    )

"""Orders moved along their life. The caller has locked the order."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import bindparam, update
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
    granted = [[{"batch_id": batch_id} for batch_id in made] for made in batch_ids]
    _change_grants(session, order, granted)
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
    amounts = [
        [
            {
                "revoked_amount": grant.revoked,
                "held_amount": grant.held,
                "lapsed_amount": grant.lapsed,
            }
            for grant in line.grants
        ]
        for line in found
    ]
    _change_grants(session, order, amounts)
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


def _change_grants(
    session: Session, order: Order, values: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    """Set columns of every grant, line by line: one round trip, however many they are."""
    rows = [
        {"of_position": position, "of_nth": nth, **columns}
        for position, of_line in enumerate(values, start=1)
        for nth, columns in enumerate(of_line, start=1)
    ]
    grants = tables.OrderGrant.__table__
    session.connection().execute(
        update(tables.OrderGrant)
        .where(
            grants.c.order_id == order.id,
            grants.c.position == bindparam("of_position"),
            grants.c.nth == bindparam("of_nth"),
        )
        .values({name: bindparam(name) for name in values[0][0]}),
        rows,
    )

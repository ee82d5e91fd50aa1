"""Orders: made, and read with all that is in them.

Locks are taken in one order: the order's row, then the balances that granting or revoking changes.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Row, Select, exists, insert, select
from sqlalchemy.orm import Session

from models import order as tables
from models.rules import ids
from models.rules.expiry import ExpiryUnit
from models.rules.offer import Item
from models.rules.order import Grant, Line, Order, Payment
from models.rules.refusal import Refusal
from models.rules.states import OrderState


class UnknownOrder(Refusal):
    """There is no order by this id."""

    code: ClassVar[str] = "order.unknown"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which orders are meant; None is any, `since` is inside, `until` is not."""

    tenant_id: str | None = None
    state: OrderState | None = None
    sku: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


def make(
    session: Session,
    *,
    tenant_id: str,
    currency: str,
    lines: Sequence[Line],
    details: dict[str, Any],
    now: dt.datetime,
) -> Order:
    """Make a pending order and return it, locked. The tenant must exist."""
    order_id = ids.uuid7(now)
    session.execute(
        insert(tables.Order).values(
            id=order_id,
            tenant_id=tenant_id,
            currency=currency,
            total_minor=sum(line.amount_minor for line in lines),
            details=details,
            created_at=now,
            updated_at=now,
        )
    )
    _add_items(session, order_id, currency, lines)
    _add_grants(session, order_id, lines)
    return get(session, order_id)


def get(session: Session, order_id: UUID) -> Order:
    """Return an order.

    Raises:
        UnknownOrder: there is none by that id.
    """
    return _one(session, _SELECT, order_id)


def lock(session: Session, order_id: UUID) -> Order:
    """Return an order as it is, and stays until the transaction ends.

    Raises:
        UnknownOrder: there is none by that id.
    """
    # First the lock, by itself: what a later statement reads was there when the lock was had.
    mine = select(tables.Order.id).where(tables.Order.id == order_id)
    session.execute(mine.with_for_update(key_share=True))
    return get(session, order_id)


def list_page(
    session: Session, wanted: Filter, *, before: UUID | None, most: int
) -> Sequence[Order]:
    """Return orders, newest first, at most `most` of those made before the one `before`."""
    statement = _SELECT.order_by(tables.Order.id.desc()).limit(most)
    if before is not None:
        statement = statement.where(tables.Order.id < before)
    if wanted.tenant_id is not None:
        statement = statement.where(tables.Order.tenant_id == wanted.tenant_id)
    if wanted.state is not None:
        statement = statement.where(tables.Order.state == wanted.state.value)
    if wanted.sku is not None:
        of_offer = exists().where(
            tables.OrderItem.order_id == tables.Order.id, tables.OrderItem.sku == wanted.sku
        )
        statement = statement.where(of_offer)
    if wanted.since is not None:
        statement = statement.where(tables.Order.created_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(tables.Order.created_at < wanted.until)
    return _read(session, session.execute(statement).all())


_SELECT: Select[*tuple[Any, ...]] = select(
    *(column for column in tables.Order.__table__.columns if column.name != "metadata"),
    tables.Order.details.label("details"),
    tables.OrderPayment.payment_method,
    tables.OrderPayment.payment_id,
).outerjoin(tables.OrderPayment, tables.OrderPayment.order_id == tables.Order.id)


def _one(session: Session, statement: Select[*tuple[Any, ...]], order_id: UUID) -> Order:
    row = session.execute(statement.where(tables.Order.id == order_id)).one_or_none()
    if row is None:
        raise UnknownOrder(
            f"order_id {str(order_id)!r} is unknown; billing.list_orders shows those there are",
            field="order_id",
        )
    return _read(session, [row])[0]


def _read(session: Session, rows: Sequence[Row[Any]]) -> list[Order]:
    """Orders with their items and grants: three statements, however many there are."""
    order_ids = [row.id for row in rows]
    grants = defaultdict(list)
    for one in session.scalars(
        select(tables.OrderGrant)
        .where(tables.OrderGrant.order_id.in_(order_ids))
        .order_by(tables.OrderGrant.nth)
        .execution_options(populate_existing=True)
    ):
        grants[one.order_id, one.position].append(_grant(one))
    lines = defaultdict(list)
    for item in session.scalars(
        select(tables.OrderItem)
        .where(tables.OrderItem.order_id.in_(order_ids))
        .order_by(tables.OrderItem.position)
        .execution_options(populate_existing=True)
    ):
        line = Line(
            sku=item.sku,
            quantity=item.quantity,
            unit_price_minor=item.unit_price_minor,
            grants=tuple(grants[item.order_id, item.position]),
            refundable_minor=item.refundable_minor,
        )
        lines[item.order_id].append(line)
    return [_order(row, lines[row.id]) for row in rows]


def _grant(one: tables.OrderGrant) -> Grant:
    return Grant(
        Item(one.product_key, one.amount, ExpiryUnit(one.period), one.period_value),
        one.batch_id,
        one.revoked_amount,
        one.held_amount,
        one.lapsed_amount,
    )


def _order(row: Row[Any], lines: Sequence[Line]) -> Order:
    return Order(
        id=row.id,
        tenant_id=row.tenant_id,
        state=OrderState(row.state),
        currency=row.currency,
        total_minor=row.total_minor,
        lines=tuple(lines),
        details=row.details,
        version=row.version,
        created_at=row.created_at,
        payment=Payment(row.payment_method, row.payment_id) if row.payment_id else None,
        paid_at=row.paid_at,
        cancelled_at=row.cancelled_at,
        refunded_at=row.refunded_at,
        refundable_minor=row.refundable_minor,
        reason=row.closing_reason,
        actor=row.closed_by,
    )


def _add_items(session: Session, order_id: UUID, currency: str, lines: Sequence[Line]) -> None:
    session.execute(
        insert(tables.OrderItem),
        [
            {
                "order_id": order_id,
                "position": position,
                "sku": line.sku,
                "quantity": line.quantity,
                "currency": currency,
                "unit_price_minor": line.unit_price_minor,
                "amount_minor": line.amount_minor,
            }
            for position, line in enumerate(lines, start=1)
        ],
    )


def _add_grants(session: Session, order_id: UUID, lines: Sequence[Line]) -> None:
    session.execute(
        insert(tables.OrderGrant),
        [
            {
                "order_id": order_id,
                "position": position,
                "nth": nth,
                "product_key": grant.item.product_key,
                "amount": grant.item.quantity,
                "period": grant.item.period.value,
                "period_value": grant.item.value,
            }
            for position, line in enumerate(lines, start=1)
            for nth, grant in enumerate(line.grants, start=1)
        ],
    )

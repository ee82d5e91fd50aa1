"""What orders share: the answer that tells of one, and what comes of a payment."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypedDict
from uuid import UUID

from models import database
from models.rules import decimals, period
from models.rules.order import Grant, Line, Order
from models.store import credit, order_change, tenant
from tasks import granting
from tasks.announce import Announcement, announce_all
from webhooks import events

CAUSE = "order"
"""The kind of cause of what an order grants; which one is its id. It is their source as well."""


class OrderGrant(TypedDict):
    """What an item grants of one product; `batch_id` once it is paid.

    Of a refunded order: what was taken back of the batch, what a hold kept, what had lapsed before,
    and what was consumed; together they are the amount.
    """

    product_key: str
    amount: str
    batch_id: UUID | None
    revoked: str | None
    held: str | None
    lapsed: str | None
    consumed: str | None


class OrderLine(TypedDict):
    """So many of an offer, as it was when it was ordered."""

    sku: str
    quantity: int
    unit_price_minor: int
    amount_minor: int
    refundable_minor: int | None
    grants: list[OrderGrant]


class OrderAnswer(TypedDict):
    """An order as it stands. Amounts are minor units of its currency.

    `refundable_minor` is the price of what its refund took back; to pay it back is not done here.
    """

    order_id: UUID
    tenant_id: str
    state: str
    currency: str
    total_minor: int
    items: list[OrderLine]
    payment_method: str | None
    payment_id: str | None
    created_at: dt.datetime
    paid_at: dt.datetime | None
    cancelled_at: dt.datetime | None
    refunded_at: dt.datetime | None
    refundable_minor: int | None
    reason: str | None
    actor: str | None
    metadata: dict[str, Any]
    version: int


def confirm(session: database.Session, order: Order, *, now: dt.datetime) -> Order:
    """Grant what a locked, pending order holds, make it paid, and announce both.

    Raises:
        UnknownProduct, InactiveProduct: a product can not be granted; nothing is.
    """
    lots = _lots(session, order, now)
    done = granting.grant(
        session,
        [lot for of_line in lots for lot in of_line],
        tenant_id=order.tenant_id,
        cause=credit.Cause(CAUSE, str(order.id)),
        details=order.details,
        now=now,
    )
    batch_ids = iter([one.granted.batch_id for one in done])
    made = [[next(batch_ids) for _ in of_line] for of_line in lots]
    paid = order_change.pay(session, order, made, now=now)
    event = events.OrderConfirmed(
        tenant_id=paid.tenant_id,
        order_id=paid.id,
        currency=paid.currency,
        total_minor=paid.total_minor,
        skus=[line.sku for line in paid.lines],
        payment_method=paid.payment.method if paid.payment else None,
        payment_id=paid.payment.payment_id if paid.payment else None,
    )
    announce_all(session, [Announcement(event, paid.tenant_id, paid.version)], now=now)
    return paid


def answer(order: Order) -> OrderAnswer:
    """Return what to tell of an order."""
    return {
        "order_id": order.id,
        "tenant_id": order.tenant_id,
        "state": order.state.value,
        "currency": order.currency,
        "total_minor": order.total_minor,
        "items": [_line(line) for line in order.lines],
        "payment_method": order.payment.method if order.payment else None,
        "payment_id": order.payment.payment_id if order.payment else None,
        "created_at": order.created_at,
        "paid_at": order.paid_at,
        "cancelled_at": order.cancelled_at,
        "refunded_at": order.refunded_at,
        "refundable_minor": order.refundable_minor,
        "reason": order.reason,
        "actor": order.actor,
        "metadata": order.details,
        "version": order.version,
    }


def _lots(
    session: database.Session, order: Order, now: dt.datetime
) -> Sequence[Sequence[granting.Lot]]:
    """What each line grants, valid from now on by the tenant's own clock."""
    zone = period.zone(tenant.get(session, order.tenant_id).timezone)
    return [
        [
            granting.Lot(
                grant.item.product_key,
                grant.item.quantity,
                grant.item.expires_at(now, zone),
                source=CAUSE,
            )
            for grant in line.grants
        ]
        for line in order.lines
    ]


def _line(line: Line) -> OrderLine:
    return {
        "sku": line.sku,
        "quantity": line.quantity,
        "unit_price_minor": line.unit_price_minor,
        "amount_minor": line.amount_minor,
        "refundable_minor": line.refundable_minor,
        "grants": [_grant(grant) for grant in line.grants],
    }


def _grant(grant: Grant) -> OrderGrant:
    found = {
        "revoked": grant.revoked,
        "held": grant.held,
        "lapsed": grant.lapsed,
        "consumed": grant.consumed,
    }
    said = {name: None if value is None else decimals.plain(value) for name, value in found.items()}
    return {
        "product_key": grant.item.product_key,
        "amount": decimals.plain(grant.item.quantity),
        "batch_id": grant.batch_id,
        "revoked": said["revoked"],
        "held": said["held"],
        "lapsed": said["lapsed"],
        "consumed": said["consumed"],
    }

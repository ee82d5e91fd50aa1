"""Orders: what was bought at which price, by which payment, and what it granted."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of, text_key
from models.rules.expiry import ExpiryUnit
from models.rules.states import OrderState


class Order(Base):
    """What a tenant buys at once. Amounts are minor units of its one currency.

    `refundable_minor` is the price of what a refund took back; `version` counts the changes, and
    with them the order's events.
    """

    __tablename__ = "orders"
    __table_args__ = (
        one_of("state", OrderState),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("total_minor >= 0", name="total_minor"),
        CheckConstraint("(state IN ('paid', 'refunded')) = (paid_at IS NOT NULL)", name="paid_at"),
        CheckConstraint("(state = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled_at"),
        CheckConstraint("(state = 'refunded') = (refunded_at IS NOT NULL)", name="refunded_at"),
        CheckConstraint(
            "(state = 'refunded') = (refundable_minor IS NOT NULL) "
            "AND coalesce(refundable_minor BETWEEN 0 AND total_minor, true)",
            name="refundable_minor",
        ),
        # What lets items point here with their currency: an order has one.
        Index("uq_orders_id_currency", "id", "currency", unique=True),
        # A tenant's orders, newest first: ids sort by time.
        Index("ix_orders_tenant_id_id", "tenant_id", "id"),
        # Those that wait for their payment, among the many that do not any more.
        Index("ix_orders_pending", "id", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    currency: Mapped[str]
    total_minor: Mapped[int] = mapped_column(BigInteger)
    refundable_minor: Mapped[int | None] = mapped_column(BigInteger)
    paid_at: Mapped[dt.datetime | None]
    cancelled_at: Mapped[dt.datetime | None]
    refunded_at: Mapped[dt.datetime | None]
    # Why it was cancelled or refunded, and who decided.
    closing_reason: Mapped[str | None]
    closed_by: Mapped[str | None]
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class OrderItem(Base):
    """So many of one offer, at the price it had when it was ordered."""

    __tablename__ = "order_items"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint(
            "unit_price_minor >= 0 AND amount_minor = unit_price_minor * quantity",
            name="amount_minor",
        ),
        CheckConstraint("refundable_minor BETWEEN 0 AND amount_minor", name="refundable_minor"),
        ForeignKeyConstraint(["order_id", "currency"], ["orders.id", "orders.currency"]),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sku: Mapped[str] = mapped_column(ForeignKey("offers.sku"))
    quantity: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    unit_price_minor: Mapped[int] = mapped_column(BigInteger)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    refundable_minor: Mapped[int | None] = mapped_column(BigInteger)


class OrderGrant(Base):
    """What an item grants of one product, as it was offered then; its batch, once it is paid.

    Of a refunded order: what was taken back of the batch, what a hold kept, and what had lapsed.
    The rest was consumed.
    """

    __tablename__ = "order_grants"
    __table_args__ = (
        one_of("period", ExpiryUnit),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint(
            "(period = 'forever') = (period_value IS NULL) AND coalesce(period_value > 0, true)",
            name="period_value",
        ),
        CheckConstraint(
            "revoked_amount >= 0 AND held_amount >= 0 AND lapsed_amount >= 0 "
            "AND revoked_amount + held_amount + lapsed_amount <= amount",
            name="refund",
        ),
        ForeignKeyConstraint(
            ["order_id", "position"], ["order_items.order_id", "order_items.position"]
        ),
        # A batch is of one order, once.
        Index("uq_order_grants_batch_id", "batch_id", unique=True),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    nth: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    amount: Mapped[Decimal]
    period: Mapped[str]
    period_value: Mapped[int | None]
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_batches.id"))
    revoked_amount: Mapped[Decimal | None]
    held_amount: Mapped[Decimal | None]
    lapsed_amount: Mapped[Decimal | None]


class OrderPayment(Base):
    """The payment that confirmed an order: one payment, one order."""

    __tablename__ = "order_payments"
    __table_args__ = (
        text_key("payment_method", longest=64),
        text_key("payment_id", longest=128),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        Index("uq_order_payments_order_id", "order_id", unique=True),
    )

    payment_method: Mapped[str] = mapped_column(primary_key=True)
    payment_id: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"))
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[dt.datetime]

"""A tenant on a plan."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column


class Subscription(Base):
    """A tenant on a plan from `effective_at` until `ended_at` (half-open; empty is open-ended).

    One that was called off before it began ends as it begins: it is in force at no instant.

    `billed_until` is the first local day after the periods that were invoiced, and
    `next_invoice_at` the end of the first period without an invoice: when it has passed, one is
    due. It is when to look: if the tenant's zone has changed, the billing run corrects it.
    `fees_due_at` is when to look what is to be charged ahead, or given back of what was, from the
    local day `fees_from` on; `next_invoice_at` is no later. Empty: not before the period ends.
    Until `trial_ends_at` nothing is charged for. `follows_id` is the subscription that it replaced
    when the tenant changed its plan; unless that was charged for, `owes_setup` goes over to it.
    A tenant is on one plan once at any instant: a trigger, since an exclusion's index would be
    written whenever a subscription is moved on.
    """

    __tablename__ = "subscriptions"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("effective_at <= ended_at", name="effective"),
        CheckConstraint("effective_at < trial_ends_at", name="trial_ends_at"),
        CheckConstraint("(fees_due_at IS NULL) = (fees_from IS NULL)", name="fees_due_at"),
        CheckConstraint("next_invoice_at <= fees_due_at", name="next_invoice_at"),
        # The billing run finds what is due without reading the rest.
        Index(
            "ix_subscriptions_next_invoice_at",
            "next_invoice_at",
            postgresql_where=text("next_invoice_at IS NOT NULL"),
        ),
        Index("ix_subscriptions_tenant_id", "tenant_id"),
        # A subscription is replaced once.
        Index(
            "uq_subscriptions_follows_id",
            "follows_id",
            unique=True,
            postgresql_where=text("follows_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    plan_key: Mapped[str] = mapped_column(ForeignKey("plans.plan_key"))
    currency: Mapped[str]
    quantity: Mapped[Decimal] = mapped_column(server_default=text("1"))
    effective_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]
    anchored_on: Mapped[dt.date]
    billed_until: Mapped[dt.date | None]
    next_invoice_at: Mapped[dt.datetime | None]
    fees_due_at: Mapped[dt.datetime | None]
    fees_from: Mapped[dt.date | None]
    trial_ends_at: Mapped[dt.datetime | None]
    follows_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    owes_setup: Mapped[bool] = mapped_column(server_default=text("true"))
    # Whether each further period gets the plan's credit.
    auto_renew: Mapped[bool] = mapped_column(server_default=text("true"))
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class SubscriptionQuantity(Base):
    """How many seats a subscription has from `effective_at` on, until the next row of it.

    The subscription itself says how many it began with. Rows that are to come may be taken back.
    """

    __tablename__ = "subscription_quantities"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity"),)

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    effective_at: Mapped[dt.datetime] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

"""Credit that plans give: the terms, how far each subscription got it, and each time it did."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of
from models.rules.allocation import Rollover


class PlanCredit(Base):
    """What a plan gives of a product each period, from an instant until the next version of it.

    `effective_at` and `ended_at` are half-open; empty means from the beginning, and until further
    notice. The version in force when a period begins decides for all of it, and is never edited.
    """

    __tablename__ = "plan_credits"
    __table_args__ = (
        one_of("rollover", Rollover),
        CheckConstraint("credit_limit > 0", name="credit_limit"),
        CheckConstraint("validity_days > 0", name="validity_days"),
        CheckConstraint(
            "(rollover = 'capped') = (rollover_cap IS NOT NULL) "
            "AND coalesce(rollover_cap > 0, true)",
            name="rollover_cap",
        ),
        CheckConstraint("rollover = 'none' OR validity_days IS NULL", name="carried"),
        CheckConstraint("effective_at < ended_at", name="effective"),
        # No two versions of one product's terms at the same instant.
        ExcludeConstraint(
            ("plan_key", "="),
            ("product_key", "="),
            (func.tstzrange(text("effective_at"), text("ended_at")), "&&"),
            name="ex_plan_credits_one_version_at_a_time",
            using="gist",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_key: Mapped[str] = mapped_column(ForeignKey("plans.plan_key"))
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    credit_limit: Mapped[Decimal]
    validity_days: Mapped[int | None]
    rollover: Mapped[str] = mapped_column(server_default=text("'none'"))
    rollover_cap: Mapped[Decimal | None]
    prorate_first: Mapped[bool] = mapped_column(server_default=text("false"))
    effective_at: Mapped[dt.datetime | None]
    ended_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class SubscriptionCredits(Base):
    """How far a subscription got its plan's credit, and the lock of getting more.

    `allocated_until` is the first local day after the periods that were looked at: a day, so that
    a tenant who moves to another zone gets no period twice. `next_at` is when to look again.
    """

    __tablename__ = "subscription_credits"
    __table_args__ = (
        # The renewal finds what is due without reading the rest.
        Index(
            "ix_subscription_credits_next_at",
            "next_at",
            "subscription_id",
            postgresql_where=text("next_at IS NOT NULL"),
        ),
    )

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    allocated_until: Mapped[dt.date | None]
    next_at: Mapped[dt.datetime | None]


class CreditAllocation(Base):
    """A product's credit of one subscription in one billing period, given once.

    `amount` is what the period gives and `carried` what was left of the one before; empty until
    that has ended. Either has no batch if it was over before it could be granted: then it counts
    as unspent. `withdrawn_at`: the subscription ended before the period, and it was taken back.
    """

    __tablename__ = "credit_allocations"
    __table_args__ = (
        CheckConstraint("amount >= 0 AND coalesce(carried >= 0, true)", name="amounts"),
        CheckConstraint("period_start < period_end AND first_day < after_day", name="period"),
        # Once per subscription, product and period, whoever asks and however often.
        Index(
            "uq_credit_allocations_subscription_id_product_key_first_day",
            "subscription_id",
            "product_key",
            "first_day",
            unique=True,
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    plan_credit_id: Mapped[UUID] = mapped_column(ForeignKey("plan_credits.id"))
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    first_day: Mapped[dt.date]
    after_day: Mapped[dt.date]
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]
    amount: Mapped[Decimal]
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_batches.id"))
    carried: Mapped[Decimal | None]
    carried_batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_batches.id"))
    withdrawn_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime]

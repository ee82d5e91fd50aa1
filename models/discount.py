"""Coupons, and who redeemed them."""

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of, text_key


class Duration(StrEnum):
    """On how many of a tenant's invoices a redeemed coupon is."""

    once = "once"
    repeating = "repeating"
    forever = "forever"


class Coupon(Base):
    """An offer to take something off invoices, known by its key.

    It takes off `percent`, or `amount_minor` of `currency` an invoice. With a `tenant_id` it is
    that tenant's alone. `redemption_count` is exact: its row is the lock of the redemptions.
    """

    __tablename__ = "coupons"
    __table_args__ = (
        text_key("coupon_key", longest=64),
        CheckConstraint("coupon_key = upper(coupon_key)", name="upper"),
        one_of("duration", Duration),
        CheckConstraint("(percent IS NULL) <> (amount_minor IS NULL)", name="terms"),
        CheckConstraint("percent > 0 AND percent <= 100", name="percent"),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="currency"),
        CheckConstraint("(duration = 'repeating') = (periods IS NOT NULL)", name="periods"),
        CheckConstraint("periods > 0", name="periods_positive"),
        # Never redeemed more often than allowed, whoever forgets to look.
        CheckConstraint(
            "redemption_count >= 0 AND redemption_count <= max_redemptions", name="redemptions"
        ),
    )

    coupon_key: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    percent: Mapped[Decimal | None]
    amount_minor: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None]
    duration: Mapped[str]
    periods: Mapped[int | None]
    scope: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.tenant_id"))
    max_redemptions: Mapped[int | None]
    redemption_count: Mapped[int] = mapped_column(server_default=text("0"))
    expires_at: Mapped[dt.datetime | None]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class CouponRedemption(Base):
    """A tenant has a coupon from `redeemed_at` until `ended_at`; it redeems one once."""

    __tablename__ = "coupon_redemptions"
    __table_args__ = (
        CheckConstraint("redeemed_at <= ended_at", name="ended_at"),
        Index("uq_coupon_redemptions_tenant", "tenant_id", "coupon_key", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    coupon_key: Mapped[str] = mapped_column(ForeignKey("coupons.coupon_key"))
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    redeemed_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]

"""Who brought whom, and what both get for it."""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Uuid, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, text_key


class ReferralProgram(Base):
    """The rewards of a referral: an offer for each side, or for one of them."""

    __tablename__ = "referral_programs"
    __table_args__ = (
        text_key("program_key", longest=64),
        CheckConstraint("num_nonnulls(referrer_sku, referee_sku) > 0", name="rewards"),
    )

    program_key: Mapped[str] = mapped_column(primary_key=True)
    referrer_sku: Mapped[str | None] = mapped_column(ForeignKey("offers.sku"))
    referee_sku: Mapped[str | None] = mapped_column(ForeignKey("offers.sku"))
    # Whether tenants can still be attached under it; those that were get their bonus all the same.
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Referral(Base):
    """One tenant brought another. The bonus is given once, for an order of the other's.

    `version` counts its events.
    """

    __tablename__ = "referrals"
    __table_args__ = (
        CheckConstraint("referrer_tenant_id <> referee_tenant_id", name="two_tenants"),
        CheckConstraint("(claimed_at IS NULL) = (order_id IS NULL)", name="claimed_at"),
        # A tenant was brought by one other.
        Index("uq_referrals_referee_tenant_id", "referee_tenant_id", unique=True),
        # An order brings one bonus.
        Index("uq_referrals_order_id", "order_id", unique=True),
        # Whom a tenant has brought, newest first.
        Index("ix_referrals_referrer_tenant_id_id", "referrer_tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    referrer_tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    referee_tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    program_key: Mapped[str] = mapped_column(ForeignKey("referral_programs.program_key"))
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("orders.id"))
    referrer_batch_ids: Mapped[list[UUID]] = mapped_column(
        ARRAY(Uuid()), server_default=text("'{}'")
    )
    referee_batch_ids: Mapped[list[UUID]] = mapped_column(
        ARRAY(Uuid()), server_default=text("'{}'")
    )
    claimed_at: Mapped[dt.datetime | None]
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime]

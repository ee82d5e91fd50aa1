"""Taxes: the rates there are, and which of them a tenant pays from when on."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, text_key


class TaxRate(Base):
    """A tax of so many percent, on top of prices or inside them. Its terms are never edited."""

    __tablename__ = "tax_rates"
    __table_args__ = (
        text_key("tax_key", longest=64),
        CheckConstraint("percent >= 0 AND percent <= 1000 AND scale(percent) <= 6", name="percent"),
    )

    tax_key: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    percent: Mapped[Decimal]
    inclusive: Mapped[bool]
    scope: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class TaxProfile(Base):
    """How a tenant is taxed from `effective_at` until its next profile.

    With an `exempt_note` it pays no tax and its invoices say so.
    """

    __tablename__ = "tax_profiles"
    __table_args__ = (
        CheckConstraint("length(exempt_note) BETWEEN 1 AND 500", name="exempt_note"),
        Index("uq_tax_profiles_tenant_effective", "tenant_id", "effective_at", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    effective_at: Mapped[dt.datetime]
    exempt_note: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class TaxProfileRate(Base):
    """One of the rates of a profile; they are printed by position."""

    __tablename__ = "tax_profile_rates"

    profile_id: Mapped[UUID] = mapped_column(ForeignKey("tax_profiles.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    tax_key: Mapped[str] = mapped_column(ForeignKey("tax_rates.tax_key"))

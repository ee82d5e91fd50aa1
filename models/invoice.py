"""What a period costs: invoices, their lines, their numbers."""

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of
from models.rules.states import InvoiceState


class InvoiceKind(StrEnum):
    """What an invoice is made for."""

    subscription = "subscription"


class LineKind(StrEnum):
    """What a line charges for."""

    fixed = "fixed"
    usage = "usage"


class InvoiceSeries(Base):
    """A gapless row of numbers of one issuer. The row is the lock that keeps it gapless."""

    __tablename__ = "invoice_series"
    __table_args__ = (CheckConstraint("last_number >= 0", name="last_number"),)

    series: Mapped[str] = mapped_column(primary_key=True)
    last_number: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class Invoice(Base):
    """What one tenant owes for one period in one currency. Amounts are in minor units.

    `timezone` is the tenant's when the invoice was made: in it the period is whole local days.
    """

    __tablename__ = "invoices"
    __table_args__ = (
        one_of("kind", InvoiceKind),
        one_of("state", InvoiceState),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("period_start < period_end", name="period"),
        # A number is given at finalization and never before.
        CheckConstraint("(state = 'draft') = (number IS NULL)", name="number"),
        CheckConstraint("(state = 'draft') = (finalized_at IS NULL)", name="finalized_at"),
        # Running a period twice gives one invoice.
        Index(
            "uq_invoices_period",
            "tenant_id",
            "period_start",
            "period_end",
            "currency",
            "kind",
            unique=True,
        ),
        Index("uq_invoices_series_sequence", "series", "sequence", unique=True),
        Index("uq_invoices_number", "number", unique=True),
        # The finalization sweep looks at drafts by age.
        Index("ix_invoices_draft", "period_end", postgresql_where=text("state = 'draft'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    kind: Mapped[str] = mapped_column(server_default=text("'subscription'"))
    state: Mapped[str] = mapped_column(server_default=text("'draft'"))
    currency: Mapped[str]
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]
    timezone: Mapped[str]
    total_minor: Mapped[int] = mapped_column(BigInteger)
    series: Mapped[str | None] = mapped_column(ForeignKey("invoice_series.series"))
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    number: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finalized_at: Mapped[dt.datetime | None]


class InvoiceLine(Base):
    """One priced row of an invoice: computed exactly, rounded once to the minor unit.

    Its currency is the invoice's. Changes to the lines of a finalized invoice are refused.
    """

    __tablename__ = "invoice_lines"
    __table_args__ = (
        one_of("kind", LineKind),
        CheckConstraint("period_start < period_end", name="period"),
    )

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    price_id: Mapped[UUID | None] = mapped_column(ForeignKey("prices.id"))
    metric: Mapped[str | None]
    description: Mapped[str]
    quantity: Mapped[Decimal]
    unit_amount: Mapped[Decimal | None]
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))

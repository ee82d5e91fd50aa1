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
    closing = "closing"
    """What is left to be billed of a tenant that gets no other invoice; its period is a day."""
    advance = "advance"
    """Fees ahead that no other invoice is made in time for; its period is the day they are due."""


class LineKind(StrEnum):
    """What a line charges for."""

    fixed = "fixed"
    usage = "usage"
    setup = "setup"
    commitment = "commitment"
    """What is missing to what the plan comes to at least."""
    adjustment = "adjustment"
    """Late usage of a period that was invoiced before."""


class InvoiceSeries(Base):
    """A gapless row of numbers of one issuer. The row is the lock that keeps it gapless."""

    __tablename__ = "invoice_series"
    __table_args__ = (CheckConstraint("last_number >= 0", name="last_number"),)

    series: Mapped[str] = mapped_column(primary_key=True)
    last_number: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class Invoice(Base):
    """What one tenant owes for one period in one currency. Amounts are in minor units.

    `timezone` is the tenant's when the invoice was made: in it the period is whole local days.
    `total_minor` is the lines less their discounts, with the taxes; `credit_minor` what prepaid
    credit paid of it at finalization (below 0: what went to it, of an invoice below 0). What is
    still open is `amount_due_minor - paid_minor - reduced_minor`; credit notes took back
    `credited_minor`, of which `reduced_minor` was not paid yet. `issuer` and `billed_to` are what
    was true at finalization. `fingerprint` tells the content of the lines, discounts and taxes from
    any other; None of invoices from before there were fingerprints.
    """

    __tablename__ = "invoices"
    __table_args__ = (
        one_of("kind", InvoiceKind),
        one_of("state", InvoiceState),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("period_start < period_end", name="period"),
        # A number is given at finalization and never before; a draft that came to nothing is void
        # without one.
        CheckConstraint(
            "CASE state WHEN 'draft' THEN number IS NULL WHEN 'void' THEN true "
            "ELSE number IS NOT NULL END",
            name="number",
        ),
        CheckConstraint("(number IS NULL) = (finalized_at IS NULL)", name="finalized_at"),
        CheckConstraint(
            "state <> 'void' OR number IS NOT NULL OR (subtotal_minor, total_minor) = (0, 0)",
            name="dropped",
        ),
        CheckConstraint(
            "total_minor = subtotal_minor - discount_minor + tax_minor - included_tax_minor",
            name="total_minor",
        ),
        CheckConstraint("amount_due_minor = total_minor - credit_minor", name="amount_due_minor"),
        # Nothing is paid, or taken back by credit notes, above what was billed.
        CheckConstraint(
            "paid_minor >= 0 AND reduced_minor >= 0 "
            "AND paid_minor + reduced_minor <= greatest(amount_due_minor, 0)",
            name="settled",
        ),
        CheckConstraint(
            "credited_minor BETWEEN 0 AND greatest(total_minor, 0) "
            "AND reduced_minor <= credited_minor",
            name="credited_minor",
        ),
        CheckConstraint(
            "state NOT IN ('draft', 'void') OR (paid_minor = 0 AND credited_minor = 0)",
            name="untouched",
        ),
        CheckConstraint(
            "state <> 'paid' OR paid_minor + reduced_minor = amount_due_minor", name="paid"
        ),
        # Running a period twice gives one invoice, besides those that were withdrawn.
        Index(
            "uq_invoices_period",
            "tenant_id",
            "period_start",
            "period_end",
            "currency",
            "kind",
            unique=True,
            postgresql_where=text("state <> 'void'"),
        ),
        # What a tenant was billed around an instant, withdrawn invoices too.
        Index("ix_invoices_tenant_id_period_end", "tenant_id", "period_end"),
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
    subtotal_minor: Mapped[int] = mapped_column(BigInteger)
    discount_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    tax_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    included_tax_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    tax_note: Mapped[str | None]
    total_minor: Mapped[int] = mapped_column(BigInteger)
    credit_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    amount_due_minor: Mapped[int] = mapped_column(BigInteger)
    paid_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reduced_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    credited_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    issuer: Mapped[dict[str, Any] | None]
    billed_to: Mapped[dict[str, Any] | None]
    series: Mapped[str | None] = mapped_column(ForeignKey("invoice_series.series"))
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    number: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finalized_at: Mapped[dt.datetime | None]
    due_at: Mapped[dt.datetime | None]
    closed_at: Mapped[dt.datetime | None]
    closing_note: Mapped[str | None]
    fingerprint: Mapped[str | None]


class InvoiceLine(Base):
    """One priced row of an invoice: computed exactly, rounded once to the minor unit.

    Its currency is the invoice's. `discounts_minor` and `taxes_minor` are its parts of the
    invoice's discounts and taxes, by their positions. Changes to the lines of a finalized invoice
    are refused. An adjustment says which invoice billed its period before. That the invoices, price
    and subscription it names are there is checked by a trigger, once a statement; none of them can
    be removed.
    """

    __tablename__ = "invoice_lines"
    __table_args__ = (
        one_of("kind", LineKind),
        CheckConstraint("period_start < period_end", name="period"),
        CheckConstraint(
            "(kind = 'adjustment') = (adjusts_invoice_id IS NOT NULL)", name="adjustment"
        ),
        # What was billed of a period after its invoice is summed up again for each adjustment.
        Index(
            "ix_invoice_lines_adjusts_invoice_id",
            "adjusts_invoice_id",
            postgresql_where=text("adjusts_invoice_id IS NOT NULL"),
        ),
        # What was charged ahead for a subscription is compared with what it owes.
        Index(
            "ix_invoice_lines_ahead",
            "subscription_id",
            "period_end",
            postgresql_where=text("details ? 'ahead_from'"),
        ),
    )

    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subscription_id: Mapped[UUID | None]
    price_id: Mapped[UUID | None]
    metric: Mapped[str | None]
    description: Mapped[str]
    quantity: Mapped[Decimal]
    unit_amount: Mapped[Decimal | None]
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    discounts_minor: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    taxes_minor: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    adjusts_invoice_id: Mapped[UUID | None]


class InvoiceDiscount(Base):
    """What one coupon takes off an invoice, as it read then. Frozen with the invoice."""

    __tablename__ = "invoice_discounts"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        # Which invoices a redemption was used on.
        Index("ix_invoice_discounts_redemption_id", "redemption_id"),
    )

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    redemption_id: Mapped[UUID] = mapped_column(ForeignKey("coupon_redemptions.id"))
    coupon_key: Mapped[str]
    name: Mapped[str]
    percent: Mapped[Decimal | None]
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)


class InvoiceTax(Base):
    """What one tax comes to on an invoice, as its rate read then. Frozen with the invoice.

    `taxable_minor` is what it is a percentage of: the lines it covers, less discounts and less the
    taxes inside their prices.
    """

    __tablename__ = "invoice_taxes"
    __table_args__ = (CheckConstraint("percent >= 0", name="percent"),)

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    tax_key: Mapped[str] = mapped_column(ForeignKey("tax_rates.tax_key"))
    name: Mapped[str]
    percent: Mapped[Decimal]
    inclusive: Mapped[bool]
    currency: Mapped[str]
    taxable_minor: Mapped[int] = mapped_column(BigInteger)
    amount_minor: Mapped[int] = mapped_column(BigInteger)

"""What comes after an invoice: payments and credit notes. All append-only."""

import datetime as dt
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

from models.base import Base, metadata_column


class Payment(Base):
    """Money that came for an invoice. `excess_minor` of it was too much and became credit."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        CheckConstraint("excess_minor BETWEEN 0 AND amount_minor", name="excess_minor"),
        # The same payment is entered once, whoever tells of it how often.
        Index("uq_payments_method_payment_id", "method", "payment_id", unique=True),
        Index("ix_payments_invoice_id", "invoice_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    method: Mapped[str]
    payment_id: Mapped[str]
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    excess_minor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    received_at: Mapped[dt.datetime]
    details: Mapped[dict[str, Any]] = metadata_column()
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class CreditNote(Base):
    """What is taken back of an invoice. Amounts are minor units, and above 0.

    Of the total, `reduced_minor` was not paid yet and is not owed any more, `to_credit_minor`
    became prepaid credit, and `payout_minor` is to be paid back outside.
    """

    __tablename__ = "credit_notes"
    __table_args__ = (
        CheckConstraint("total_minor > 0", name="total_minor"),
        CheckConstraint(
            "total_minor = subtotal_minor + tax_minor - included_tax_minor", name="sum"
        ),
        CheckConstraint(
            "reduced_minor >= 0 AND to_credit_minor >= 0 AND payout_minor >= 0 "
            "AND total_minor = reduced_minor + to_credit_minor + payout_minor",
            name="refund",
        ),
        Index("uq_credit_notes_series_sequence", "series", "sequence", unique=True),
        Index("uq_credit_notes_number", "number", unique=True),
        Index("ix_credit_notes_invoice_id", "invoice_id"),
        Index("ix_credit_notes_tenant_id", "tenant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    series: Mapped[str] = mapped_column(ForeignKey("invoice_series.series"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[str]
    reason: Mapped[str]
    currency: Mapped[str]
    subtotal_minor: Mapped[int] = mapped_column(BigInteger)
    tax_minor: Mapped[int] = mapped_column(BigInteger)
    included_tax_minor: Mapped[int] = mapped_column(BigInteger)
    total_minor: Mapped[int] = mapped_column(BigInteger)
    reduced_minor: Mapped[int] = mapped_column(BigInteger)
    to_credit_minor: Mapped[int] = mapped_column(BigInteger)
    payout_minor: Mapped[int] = mapped_column(BigInteger)
    issuer: Mapped[dict[str, Any]]
    billed_to: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime]


class CreditNoteLine(Base):
    """What is taken back of one line, with its part of each tax of the invoice by position."""

    __tablename__ = "credit_note_lines"
    __table_args__ = (
        ForeignKeyConstraint(
            ["invoice_id", "position"], ["invoice_lines.invoice_id", "invoice_lines.position"]
        ),
        # What is credited of a line is summed up again for each note.
        Index("ix_credit_note_lines_invoice_id", "invoice_id"),
    )

    credit_note_id: Mapped[UUID] = mapped_column(ForeignKey("credit_notes.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    taxes_minor: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))

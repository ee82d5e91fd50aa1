"""Usage that arrives after its period was invoiced, and what it took back."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    false,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class LateUsage(Base):
    """A log of invoices whose usage was counted anew since they were made.

    Written once, marked when drafts show it, deleted when an invoice has billed what it came to.
    No unique key: roll-ups never wait for whoever is looking at it, and a row that came meanwhile
    is still there after it.
    """

    __tablename__ = "late_usage"
    __table_args__ = (
        # Whoever bills a tenant finds its rows.
        Index("ix_late_usage_tenant_id", "tenant_id"),
        # Whoever computes drafts anew, whose drafts do not show it yet.
        Index("ix_late_usage_not_drawn", "tenant_id", postgresql_where=text("NOT drawn")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    noticed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    drawn: Mapped[bool] = mapped_column(server_default=false())
    """Whether the tenant's drafts were computed with it; it stays until one has its number."""


class LateUsageCredit(Base):
    """How much less a line of an invoice costs by late usage, or for days that were paid ahead and
    not used, before discounts, that a note took back. Append-only."""

    __tablename__ = "late_usage_credits"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        ForeignKeyConstraint(
            ["invoice_id", "position"], ["invoice_lines.invoice_id", "invoice_lines.position"]
        ),
        Index("ix_late_usage_credits_invoice_id", "invoice_id"),
    )

    credit_note_id: Mapped[UUID] = mapped_column(ForeignKey("credit_notes.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[Decimal]

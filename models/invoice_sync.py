"""Invoices on their way to a provider: how far each came, every try, and how the provider does."""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of
from models.rules.states import InvoiceSyncState


class InvoiceSync(Base):
    """One invoice at one provider. Written with the invoice's number, in one transaction.

    `done` has the steps that the provider has carried out, and the id it gave for each. `begun_at`
    is when it was first asked for anything; `attempts` are failed tries since something succeeded,
    `code` and `reason` what the last of them came to; `series` counts an operator's retries;
    `version` the events that were told of it.
    """

    __tablename__ = "invoice_syncs"
    __table_args__ = (
        one_of("state", InvoiceSyncState),
        CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease_token"),
        CheckConstraint("(state = 'running') = (leased_until IS NOT NULL)", name="leased_until"),
        CheckConstraint("state <> 'failed' OR code IS NOT NULL", name="code"),
        CheckConstraint("attempts >= 0 AND series > 0", name="counts"),
        # A run looks at what is due of one provider, oldest first.
        Index(
            "ix_invoice_syncs_due",
            "provider",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
        # Who is at work, of which tenant, and whose lease ran out: a handful.
        Index(
            "ix_invoice_syncs_running",
            "provider",
            "tenant_id",
            postgresql_where=text("state = 'running'"),
        ),
        # Operators look at what failed, and at the newest.
        Index("ix_invoice_syncs_state", "state", "invoice_id"),
    )

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    done: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    due_at: Mapped[dt.datetime]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    series: Mapped[int] = mapped_column(server_default=text("1"))
    code: Mapped[str | None]
    reason: Mapped[str | None]
    lease_token: Mapped[UUID | None]
    leased_until: Mapped[dt.datetime | None]
    begun_at: Mapped[dt.datetime | None]
    synced_at: Mapped[dt.datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class InvoiceSyncAttempt(Base):
    """One try of one step, and how it ended. Append-only; no secret and no content."""

    __tablename__ = "invoice_sync_attempts"
    __table_args__ = (Index("ix_invoice_sync_attempts_invoice_id", "invoice_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    provider: Mapped[str]
    step: Mapped[str]
    attempted_at: Mapped[dt.datetime]
    outcome: Mapped[str]
    status: Mapped[int | None]
    latency_ms: Mapped[int]
    code: Mapped[str | None]
    error: Mapped[str | None]


class ProviderCustomer(Base):
    """A tenant at a provider. `remote_id` is null until it is known; `begun_at` when it was first
    asked for."""

    __tablename__ = "provider_customers"

    provider: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    remote_id: Mapped[str | None]
    begun_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class ProviderHealth(Base):
    """How a provider does: `failures` in a row that no invoice is to blame for. Until `hold_until`
    it is left alone."""

    __tablename__ = "provider_health"
    __table_args__ = (CheckConstraint("failures >= 0", name="failures"),)

    provider: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    hold_until: Mapped[dt.datetime | None]
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

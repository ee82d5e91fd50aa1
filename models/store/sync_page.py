"""Invoices at a provider, looked up and listed."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.invoice_sync import InvoiceSync, InvoiceSyncAttempt
from models.rules.states import InvoiceSyncState
from models.store.invoice_sync import UnknownSync

SELECT: Select[*tuple[Any, ...]] = select(
    InvoiceSync.invoice_id,
    InvoiceSync.provider,
    InvoiceSync.tenant_id,
    InvoiceSync.state,
    InvoiceSync.done,
    InvoiceSync.due_at,
    InvoiceSync.attempts,
    InvoiceSync.code,
    InvoiceSync.reason,
    InvoiceSync.synced_at,
    Invoice.number,
).join(Invoice, Invoice.id == InvoiceSync.invoice_id)
"""What is listed of each."""


def newest(
    session: Session,
    *,
    tenant_id: str | None,
    state: InvoiceSyncState | None,
    limit: int,
    after: UUID | None,
) -> list[Row[Any]]:
    """Return a page, those of invoices made last first, from behind `after`."""
    statement = SELECT.order_by(InvoiceSync.invoice_id.desc(), InvoiceSync.provider).limit(limit)
    if tenant_id is not None:
        statement = statement.where(InvoiceSync.tenant_id == tenant_id)
    if state is not None:
        statement = statement.where(InvoiceSync.state == state.value)
    if after is not None:
        statement = statement.where(InvoiceSync.invoice_id < after)
    return list(session.execute(statement))


def get(session: Session, invoice_id: UUID) -> Row[Any]:
    """Return how far an invoice came at the provider it was sent to last.

    Raises:
        UnknownSync: it was not sent to any.
    """
    row = session.execute(
        SELECT.where(InvoiceSync.invoice_id == invoice_id)
        .order_by(InvoiceSync.created_at.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise UnknownSync(
            f"invoice {invoice_id} was never sent to a provider; `billing sync retry` sends one",
            field="invoice_id",
        )
    return row


def attempts(session: Session, invoice_id: UUID, *, limit: int) -> Sequence[InvoiceSyncAttempt]:
    """Return tries of an invoice's steps, the last first."""
    return session.scalars(
        select(InvoiceSyncAttempt)
        .where(InvoiceSyncAttempt.invoice_id == invoice_id)
        .order_by(InvoiceSyncAttempt.id.desc())
        .limit(limit)
    ).all()

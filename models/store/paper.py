"""What a page says beside its lines: who it is from and to, and what came after it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.settlement import Payment
from models.store import issuer, tenant
from models.store.invoice import Header


def parties(session: Session, header: Header) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the issuer and the tenant as an invoice says them: as they were when it was
    finalized, or as they are while it is not."""
    kept = session.execute(
        select(Invoice.issuer, Invoice.billed_to).where(Invoice.id == header.id)
    ).one_or_none()
    if kept is not None and kept.issuer is not None and kept.billed_to is not None:
        return kept.issuer, kept.billed_to
    billed = tenant.get(session, header.tenant_id)
    receiver = {
        "name": billed.name,
        "address": billed.address,
        "tax_number": billed.tax_number,
    }
    return issuer.get(session).snapshot(), receiver


def payments(session: Session, invoice_id: UUID) -> list[Payment]:
    """Return the payments of an invoice, oldest first."""
    return list(
        session.scalars(
            select(Payment)
            .where(Payment.invoice_id == invoice_id)
            .order_by(Payment.received_at, Payment.id)
        )
    )

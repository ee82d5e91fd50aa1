"""What a provider is told of an invoice, read for many at a time."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.invoice_sync import ProviderCustomer
from models.rules import billing
from models.rules.states import InvoiceState
from models.rules.syncing import Note, Standing
from models.rules.waterfall import Bill
from models.settlement import CreditNote
from models.store import bill, invoice, invoice_line
from models.store.invoice import Header
from models.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Facts:
    """A numbered invoice with all that a provider is told. `customer` is the tenant's id there."""

    header: Header
    lines: Sequence[billing.Line]
    bill: Bill
    billed_to: Mapping[str, Any]
    email: str | None
    customer: str | None
    customer_begun_at: dt.datetime | None
    notes: Mapping[UUID, tuple[str, str]]
    """The number of each credit note, and the reason."""


def read(session: Session, invoice_ids: Sequence[UUID], *, provider: str) -> dict[UUID, Facts]:
    """Return what there is to tell of invoices that have a number, by id."""
    if not invoice_ids:
        return {}
    headers = invoice.get_all(session, invoice_ids)
    lines = invoice_line.lines(session, invoice_ids)
    bills = bill.read(session, invoice_ids)
    about = {
        row.id: row
        for row in session.execute(
            select(
                Invoice.id,
                Invoice.billed_to,
                Tenant.details["email"].astext.label("email"),
                ProviderCustomer.remote_id,
                ProviderCustomer.begun_at,
            )
            .join(Tenant, Tenant.tenant_id == Invoice.tenant_id)
            .outerjoin(
                ProviderCustomer,
                (ProviderCustomer.tenant_id == Invoice.tenant_id)
                & (ProviderCustomer.provider == provider),
            )
            .where(Invoice.id == func.any(list(invoice_ids)))
        )
    }
    notes = _notes(session, invoice_ids)
    return {
        invoice_id: Facts(
            header=header,
            lines=lines.get(invoice_id, []),
            bill=bills[invoice_id],
            billed_to=about[invoice_id].billed_to or {},
            email=about[invoice_id].email,
            customer=about[invoice_id].remote_id,
            customer_begun_at=about[invoice_id].begun_at,
            notes={note.id: (note.number, note.reason) for note in notes[invoice_id]},
        )
        for invoice_id, header in headers.items()
    }


def standings(session: Session, invoice_ids: Sequence[UUID]) -> dict[UUID, Standing]:
    """Return where invoices stand now, by id."""
    rows = session.execute(
        select(Invoice.id, Invoice.state, Invoice.paid_minor).where(
            Invoice.id == func.any(list(invoice_ids))
        )
    ).all()
    notes = _notes(session, invoice_ids)
    return {
        row.id: Standing(
            InvoiceState(row.state),
            row.paid_minor,
            [
                Note(note.id, note.reduced_minor, note.to_credit_minor + note.payout_minor)
                for note in notes[row.id]
            ],
        )
        for row in rows
    }


def _notes(session: Session, invoice_ids: Sequence[UUID]) -> Mapping[UUID, list[Any]]:
    rows = session.execute(
        select(
            CreditNote.id,
            CreditNote.invoice_id,
            CreditNote.number,
            CreditNote.reason,
            CreditNote.reduced_minor,
            CreditNote.to_credit_minor,
            CreditNote.payout_minor,
        )
        .where(CreditNote.invoice_id == func.any(list(invoice_ids)))
        .order_by(CreditNote.series, CreditNote.sequence)
    )
    found: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.invoice_id].append(row)
    return found

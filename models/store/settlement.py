"""After finalization: payments, and the states an invoice goes through.

The caller holds the tenant's lock, as whoever changes an invoice does. Each change names the
version it was made from and does nothing to another one.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.rules import ids, states
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState
from models.settlement import Payment
from models.store import invoice, invoice_sync, subscription
from models.store.invoice import Header


class InvoiceNotOpen(Refusal):
    """The invoice is in a state that does not allow this."""

    code: ClassVar[str] = "invoice.not_open"


class InvoiceMoved(Refusal):
    """Somebody else changed the invoice meanwhile, who did not hold its tenant's lock."""

    code: ClassVar[str] = "invoice.moved"


class PaymentConflict(Refusal):
    """The payment is known with another amount, currency or invoice."""

    code: ClassVar[str] = "payment.conflict"


@dataclass(frozen=True, slots=True)
class Receipt:
    """Money that came: `excess_minor` of it is above what was due."""

    method: str
    payment_id: str
    currency: str
    amount_minor: int
    excess_minor: int
    received_at: dt.datetime
    details: dict[str, Any]


def hold(session: Session, invoice_id: UUID) -> Header:
    """Return an invoice as it is, and lock its tenant: it stays so until the transaction ends.

    Raises:
        UnknownInvoice: there is none by that id.
    """
    subscription.hold_tenant(session, invoice.get(session, invoice_id).tenant_id)
    return invoice.get(session, invoice_id)


def find_payment(session: Session, *, method: str, payment_id: str) -> Payment | None:
    """Return a payment that was entered before."""
    return session.scalars(
        select(Payment).where(Payment.method == method, Payment.payment_id == payment_id)
    ).one_or_none()


def add_payment(session: Session, header: Header, receipt: Receipt, *, now: dt.datetime) -> UUID:
    """Enter a payment for an invoice and return its id.

    Raises:
        PaymentConflict: it was entered for another invoice just now.
    """
    added = session.scalars(
        insert(Payment)
        .values(
            id=ids.uuid7(now),
            invoice_id=header.id,
            tenant_id=header.tenant_id,
            method=receipt.method,
            payment_id=receipt.payment_id,
            currency=receipt.currency,
            amount_minor=receipt.amount_minor,
            excess_minor=receipt.excess_minor,
            received_at=receipt.received_at,
            details=receipt.details,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Payment.id)
    ).one_or_none()
    if added is None:
        raise PaymentConflict(
            f"payment {receipt.payment_id!r} by {receipt.method!r} was entered for another "
            "invoice; give this one an id of its own",
            field="payment_id",
        )
    return added


def change(
    session: Session,
    header: Header,
    *,
    now: dt.datetime,
    event: str | None = None,
    paid_minor: int = 0,
    reduced_minor: int = 0,
    credited_minor: int = 0,
    note: str | None = None,
) -> Header:
    """Add to what was paid and credited, move the invoice by an event, and return it as it is now.

    An open invoice of which nothing is left to pay becomes paid by itself.

    Raises:
        InvoiceNotOpen: its state has no such event.
        InvoiceMoved: it is not the version that `header` shows.
    """
    changed = replace(
        header,
        paid_minor=header.paid_minor + paid_minor,
        reduced_minor=header.reduced_minor + reduced_minor,
        credited_minor=header.credited_minor + credited_minor,
        version=header.version + 1,
    )
    if event is None and header.state in states.OWED_INVOICE_STATES and not changed.open_minor:
        event = "pay"
    if event is not None:
        changed = replace(
            changed, state=_next_state(header, event), closed_at=now, closing_note=note
        )
    _store(session, header, changed, now)
    invoice_sync.change(session, header.id, now=now)
    return changed


def close_settled(
    session: Session, headers: Sequence[Header], *, now: dt.datetime
) -> dict[UUID, Header]:
    """Make those of finalized invoices paid of which nothing is due; return them, by id."""
    settled = [header for header in headers if header.open_minor == 0]
    if not settled:
        return {}
    session.execute(
        update(Invoice)
        .where(
            Invoice.id == func.any([header.id for header in settled]),
            Invoice.state == InvoiceState.finalized,
        )
        .values(
            state=InvoiceState.paid.value,
            closed_at=now,
            version=Invoice.version + 1,
            updated_at=now,
        )
    )
    return {
        header.id: replace(
            header, state=InvoiceState.paid, closed_at=now, version=header.version + 1
        )
        for header in settled
    }


def _next_state(header: Header, event: str) -> InvoiceState:
    moves = states.INVOICE.transitions[header.state]
    if event not in moves:
        allowed = [
            state.value for state, events in states.INVOICE.transitions.items() if event in events
        ]
        raise InvoiceNotOpen(
            f"invoice {header.number or header.id} is {header.state.value}; it must be "
            f"{' or '.join(allowed)}",
            field="invoice_id",
        )
    return InvoiceState(moves[event])


def _store(session: Session, header: Header, changed: Header, now: dt.datetime) -> None:
    moved = session.scalars(
        update(Invoice)
        .where(
            Invoice.id == header.id,
            Invoice.state == header.state.value,
            Invoice.version == header.version,
        )
        .values(
            state=changed.state.value,
            paid_minor=changed.paid_minor,
            reduced_minor=changed.reduced_minor,
            credited_minor=changed.credited_minor,
            closed_at=changed.closed_at,
            closing_note=changed.closing_note,
            version=changed.version,
            updated_at=now,
        )
        .returning(Invoice.id)
    ).one_or_none()
    if moved is None:
        raise InvoiceMoved(
            f"invoice {header.number} was changed by somebody else meanwhile; send it again",
            field="invoice_id",
        )

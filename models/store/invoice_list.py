"""Invoices looked up and listed, page after page."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, tuple_
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.rules.states import InvoiceState
from models.settlement import CreditNote
from models.store import invoice
from models.store.invoice import Header, UnknownInvoice
from models.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which invoices; what is None is not asked for. `issued_until` is not inside."""

    tenant_id: str | None = None
    state: InvoiceState | None = None
    issued_from: dt.datetime | None = None
    issued_until: dt.datetime | None = None


def newest(
    session: Session, wanted: Wanted, *, limit: int, after: UUID | None = None
) -> list[Header]:
    """Return a page of invoices, those made last first, from behind `after`."""
    statement = invoice.SELECT.where(*_conditions(wanted)).order_by(Invoice.id.desc())
    if after is not None:
        statement = statement.where(Invoice.id < after)
    return [invoice.read(row) for row in session.execute(statement.limit(limit))]


def issued(
    session: Session, wanted: Wanted, *, limit: int, after: tuple[str, int] | None = None
) -> list[tuple[Header, tuple[str, int]]]:
    """Return a page of finalized invoices by series and number, each with its place."""
    statement = (
        invoice.SELECT.add_columns(Invoice.series, Invoice.sequence)
        .where(*_conditions(wanted), Invoice.number.is_not(None))
        .order_by(Invoice.series, Invoice.sequence)
    )
    if after is not None:
        statement = statement.where(tuple_(Invoice.series, Invoice.sequence) > after)
    return [
        (invoice.read(row), (row.series, row.sequence))
        for row in session.execute(statement.limit(limit))
    ]


def notes_issued(
    session: Session, wanted: Wanted, *, limit: int, after: tuple[str, int] | None = None
) -> list[CreditNote]:
    """Return a page of credit notes by series and number; they have no state."""
    statement = select(CreditNote).order_by(CreditNote.series, CreditNote.sequence)
    if wanted.tenant_id is not None:
        statement = statement.where(CreditNote.tenant_id.in_(_family(wanted.tenant_id)))
    if wanted.issued_from is not None:
        statement = statement.where(CreditNote.created_at >= wanted.issued_from)
    if wanted.issued_until is not None:
        statement = statement.where(CreditNote.created_at < wanted.issued_until)
    if after is not None:
        statement = statement.where(tuple_(CreditNote.series, CreditNote.sequence) > after)
    return list(session.scalars(statement.limit(limit)))


def find(session: Session, named: str) -> Header | CreditNote:
    """Return the invoice, or the credit note, of a number or an id.

    Raises:
        UnknownInvoice: there is none by that name.
    """
    identifier = _uuid(named)
    number = Invoice.number == named
    row = session.execute(
        invoice.SELECT.where(number if identifier is None else Invoice.id == identifier)
    ).first()
    if row is not None:
        return invoice.read(row)
    by_number = CreditNote.number == named
    note = session.scalars(
        select(CreditNote).where(by_number if identifier is None else CreditNote.id == identifier)
    ).first()
    if note is None:
        raise UnknownInvoice(
            f"no invoice and no credit note has the number or id {named!r}; `billing invoice list` "
            "names them",
            field="invoice_id",
        )
    return note


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.tenant_id is not None:
        conditions.append(Invoice.tenant_id.in_(_family(wanted.tenant_id)))
    if wanted.state is not None:
        conditions.append(Invoice.state == wanted.state.value)
    if wanted.issued_from is not None:
        conditions.append(Invoice.finalized_at >= wanted.issued_from)
    if wanted.issued_until is not None:
        conditions.append(Invoice.finalized_at < wanted.issued_until)
    return conditions


def _family(tenant_id: str) -> Select[str]:
    """A tenant, and those that became part of it: invoices keep the name they were made in."""
    is_one = or_(Tenant.tenant_id == tenant_id, Tenant.merged_into == tenant_id)
    return select(Tenant.tenant_id).where(is_one)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

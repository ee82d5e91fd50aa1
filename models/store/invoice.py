"""Invoices and their lines, read."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Row, Select, and_, func, select
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceKind
from models.rules import billing, period
from models.rules.period import Period
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState


class UnknownInvoice(Refusal):
    """No invoice has this id."""

    code: ClassVar[str] = "invoice.unknown"


@dataclass(frozen=True, slots=True)
class Header:
    """An invoice without its lines."""

    id: UUID
    tenant_id: str
    currency: str
    timezone: str
    period: Period
    state: InvoiceState
    total_minor: int
    version: int
    number: str | None = None
    created_at: dt.datetime | None = None
    finalized_at: dt.datetime | None = None
    credit_minor: int = 0
    paid_minor: int = 0
    reduced_minor: int = 0
    credited_minor: int = 0
    due_at: dt.datetime | None = None
    closed_at: dt.datetime | None = None
    closing_note: str | None = None
    kind: InvoiceKind = InvoiceKind.subscription

    @property
    def amount_due_minor(self) -> int:
        """What the tenant has to pay: the total less what prepaid credit paid."""
        return self.total_minor - self.credit_minor

    @property
    def open_minor(self) -> int:
        """What is still to be paid: nothing of one that was withdrawn."""
        if self.state is InvoiceState.void:
            return 0
        return self.amount_due_minor - self.paid_minor - self.reduced_minor

    @property
    def is_dropped(self) -> bool:
        """Whether it came to nothing as a draft: it never billed anything, and has no number."""
        return self.state is InvoiceState.void and self.number is None

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which its period is whole days. Raises period.UnknownTimezone."""
        return period.zone(self.timezone)

    @property
    def days(self) -> billing.Days:
        """Its period in local days."""
        return billing.days_between(self.period.start, self.period.end, self.zone)


def get(session: Session, invoice_id: UUID) -> Header:
    """Return an invoice.

    Raises:
        UnknownInvoice: there is none by that id.
    """
    row = session.execute(SELECT.where(Invoice.id == invoice_id)).first()
    if row is None:
        raise UnknownInvoice(f"invoice_id {str(invoice_id)!r} is unknown", field="invoice_id")
    return read(row)


def get_all(session: Session, invoice_ids: Sequence[UUID]) -> dict[UUID, Header]:
    """Return invoices by their ids; all of them exist."""
    rows = session.execute(SELECT.where(Invoice.id == func.any(list(invoice_ids))))
    return {row.id: read(row) for row in rows}


def of_ids(session: Session, invoice_ids: Sequence[UUID]) -> list[Header]:
    """Return the invoices there are by these ids, oldest period first."""
    rows = session.execute(
        SELECT.where(Invoice.id == func.any(list(invoice_ids))).order_by(
            Invoice.period_end, Invoice.id
        )
    )
    return [read(row) for row in rows]


def ending_between(
    session: Session,
    tenant_ids: Sequence[str],
    *,
    start: dt.datetime,
    end: dt.datetime | None = None,
    kinds: Sequence[InvoiceKind] = (InvoiceKind.subscription,),
) -> list[Header]:
    """Return the tenants' invoices whose period ends in `[start, end]`, in that order.

    Args:
        kinds: of these kinds only.
    """
    within = Invoice.period_end >= start
    rows = session.execute(
        SELECT.where(
            Invoice.tenant_id == func.any(list(tenant_ids)),
            Invoice.kind.in_(kinds),
            within if end is None else and_(within, Invoice.period_end <= end),
        ).order_by(Invoice.period_end, Invoice.id)
    )
    return [read(row) for row in rows]


SELECT: Select[*tuple[Any, ...]] = select(
    Invoice.id,
    Invoice.tenant_id,
    Invoice.currency,
    Invoice.timezone,
    Invoice.period_start,
    Invoice.period_end,
    Invoice.state,
    Invoice.total_minor,
    Invoice.version,
    Invoice.number,
    Invoice.created_at,
    Invoice.finalized_at,
    Invoice.credit_minor,
    Invoice.paid_minor,
    Invoice.reduced_minor,
    Invoice.credited_minor,
    Invoice.due_at,
    Invoice.closed_at,
    Invoice.closing_note,
    Invoice.kind,
)
"""What `read` reads, in this order."""

_WIDTH = len(SELECT.selected_columns)


def read(row: Row[Any]) -> Header:
    """Return the invoice in a row of `SELECT`."""
    # By position: a run reads hundreds of thousands of rows.
    invoice_id, tenant_id, currency, timezone, start, end, state, *others, kind = row[:_WIDTH]
    total, version, number, created_at, finalized_at, credit, paid, reduced, credited, *ends = (
        others
    )
    due_at, closed_at, closing_note = ends
    return Header(
        id=invoice_id,
        tenant_id=tenant_id,
        currency=currency,
        timezone=timezone,
        period=period_of(start, end),
        state=InvoiceState(state),
        total_minor=total,
        version=version,
        number=number,
        created_at=created_at,
        finalized_at=finalized_at,
        credit_minor=credit,
        paid_minor=paid,
        reduced_minor=reduced,
        credited_minor=credited,
        due_at=due_at,
        closed_at=closed_at,
        closing_note=closing_note,
        kind=InvoiceKind(kind),
    )


# A chunk has thousands of lines over the same few periods.
@lru_cache(maxsize=8192)
def period_of(start: dt.datetime, end: dt.datetime) -> Period:
    """Return a period; of the same instants the same object."""
    return Period(start, end)

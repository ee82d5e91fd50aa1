"""Invoices and their lines, read."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Row, Select, Text, and_, cast, func, select
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceKind, InvoiceLine
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


def lines(session: Session, invoice_ids: Sequence[UUID]) -> Mapping[UUID, list[billing.Line]]:
    """Return the lines of invoices in order; an invoice without lines has no entry."""
    rows = session.execute(
        select(*LINE_COLUMNS)
        .where(InvoiceLine.invoice_id == func.any(list(invoice_ids)))
        .order_by(InvoiceLine.invoice_id, InvoiceLine.position)
    )
    found: dict[UUID, list[billing.Line]] = defaultdict(list)
    for row in rows:
        found[row.invoice_id].append(read_line(row))
    return found


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
"""What `read` reads."""

LINE_COLUMNS = (
    InvoiceLine.invoice_id,
    InvoiceLine.kind,
    InvoiceLine.subscription_id,
    InvoiceLine.price_id,
    InvoiceLine.metric,
    InvoiceLine.description,
    InvoiceLine.quantity,
    InvoiceLine.unit_amount,
    InvoiceLine.amount_minor,
    InvoiceLine.period_start,
    InvoiceLine.period_end,
    # As text, for a reader of JSON that is quicker than the driver's.
    cast(InvoiceLine.details, Text).label("details"),
    InvoiceLine.adjusts_invoice_id,
)
"""What `read_line` reads."""


def read(row: Row[Any]) -> Header:
    """Return the invoice in a row of `SELECT`."""
    return Header(
        id=row.id,
        tenant_id=row.tenant_id,
        currency=row.currency,
        timezone=row.timezone,
        period=_period(row.period_start, row.period_end),
        state=InvoiceState(row.state),
        total_minor=row.total_minor,
        version=row.version,
        number=row.number,
        created_at=row.created_at,
        finalized_at=row.finalized_at,
        credit_minor=row.credit_minor,
        paid_minor=row.paid_minor,
        reduced_minor=row.reduced_minor,
        credited_minor=row.credited_minor,
        due_at=row.due_at,
        closed_at=row.closed_at,
        closing_note=row.closing_note,
        kind=InvoiceKind(row.kind),
    )


# A chunk has thousands of lines over the same few periods.
@lru_cache(maxsize=8192)
def _period(start: dt.datetime, end: dt.datetime) -> Period:
    return Period(start, end)


def read_line(row: Row[*tuple[Any, ...]]) -> billing.Line:
    """Return the line in a row of `LINE_COLUMNS`."""
    return billing.Line(
        kind=row.kind,
        subscription_id=row.subscription_id,
        price_id=row.price_id,
        metric=row.metric,
        description=row.description,
        quantity=row.quantity,
        unit_amount=row.unit_amount,
        amount_minor=row.amount_minor,
        period=_period(row.period_start, row.period_end),
        details=orjson.loads(row.details),
        adjusts=row.adjusts_invoice_id,
    )

"""What was charged ahead: the lines of invoices, less what credit notes took back of them."""

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceKind, InvoiceLine
from models.late_usage import LateUsageCredit
from models.rules import ahead
from models.rules.ahead import Stretch
from models.rules.billing import Line
from models.rules.states import FINAL_INVOICE_STATES, InvoiceState
from models.store import invoice, invoice_line
from models.store.invoice import Header

_ONE_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Charged:
    """A line that was charged ahead, at its position from 1; `left_minor` was not given back."""

    header: Header
    position: int
    line: Line
    left_minor: int

    @property
    def stretch(self) -> Stretch:
        """What it is for."""
        return ahead.stretch_of(self.line)

    @property
    def is_numbered(self) -> bool:
        """Whether its invoice asks for it, and can not be changed any more."""
        return self.header.state in FINAL_INVOICE_STATES


def charged(
    session: Session, subscription_ids: Collection[UUID], *, since: dt.date
) -> list[Charged]:
    """Return what was charged ahead of subscriptions for stretches that begin on a day or later,
    oldest invoice first.

    A withdrawn invoice counts as long as no other was made in its place: whoever withdrew it may
    have meant it.
    """
    given_back = (
        select(func.coalesce(func.sum(LateUsageCredit.amount_minor), 0))
        .where(
            LateUsageCredit.invoice_id == InvoiceLine.invoice_id,
            LateUsageCredit.position == InvoiceLine.position,
        )
        .scalar_subquery()
    )
    after = dt.datetime.combine(since, dt.time.min, dt.UTC) - _ONE_DAY
    rows = session.execute(
        select(*invoice_line.COLUMNS, InvoiceLine.position, given_back.label("given_back"))
        .where(
            InvoiceLine.subscription_id == func.any(list(subscription_ids)),
            InvoiceLine.period_end > after,
            text("invoice_lines.details ? 'ahead_from'"),
        )
        .order_by(InvoiceLine.invoice_id, InvoiceLine.position)
    ).all()
    headers = invoice.get_all(session, sorted({row.invoice_id for row in rows}))
    counting = {header.id for header in _counting(headers.values())}
    found = []
    for row in rows:
        line = invoice_line.read(row)
        if row.invoice_id in counting and ahead.stretch_of(line).first >= since:
            header, left = headers[row.invoice_id], line.amount_minor - int(row.given_back)
            found.append(Charged(header, row.position, line, left))
    return found


def drafts_that_take(session: Session, tenant_ids: Sequence[str]) -> list[Header]:
    """Return the drafts of tenants that charge ahead, or may."""
    rows = session.execute(
        invoice.SELECT.where(
            Invoice.tenant_id == func.any(list(tenant_ids)),
            Invoice.state == InvoiceState.draft,
            Invoice.kind != InvoiceKind.closing,
        )
    )
    return [invoice.read(row) for row in rows]


def _counting(headers: Iterable[Header]) -> list[Header]:
    """Without withdrawn invoices in whose place there is another, later one."""
    newest: dict[tuple[object, ...], Header] = {}
    for header in headers:
        key = header.tenant_id, header.currency, header.kind, header.days
        other = newest.get(key)
        if other is None or _rank(header) > _rank(other):
            newest[key] = header
    return list(newest.values())


def _rank(header: Header) -> tuple[bool, UUID]:
    return header.state is not InvoiceState.void, header.id

"""An invoice as tasks answer with it."""

import datetime as dt
from typing import Any, TypedDict
from uuid import UUID

from models.rules import billing, money
from models.rules.decimals import plain
from models.store.drafting import Drafted
from tasks import bill_view


class LineAnswer(TypedDict):
    """A priced row. `amount_minor` is in minor units, `quantity` and `unit_amount` are decimals."""

    kind: str
    metric: str | None
    description: str
    quantity: str
    unit_amount: str | None
    amount_minor: int
    amount: str
    period_start: dt.datetime
    period_end: dt.datetime
    subscription_id: UUID
    details: dict[str, Any]
    discount_minor: int
    tax_minor: int


class InvoiceAnswer(TypedDict):
    """An invoice with its lines. `total` is `total_minor` in major units.

    `total_minor` is the lines (`subtotal_minor`) less `discount_minor`, with the taxes that are on
    top; `credit_minor` of it was paid by prepaid credit, the rest is `amount_due_minor`, of which
    `open_minor` is neither paid nor credited yet.
    """

    invoice_id: UUID
    tenant_id: str
    state: str
    number: str | None
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    total: str
    credit_minor: int
    amount_due_minor: int
    paid_minor: int
    credited_minor: int
    open_minor: int
    period_start: dt.datetime
    period_end: dt.datetime
    timezone: str
    finalized_at: dt.datetime | None
    due_at: dt.datetime | None
    version: int
    tax_note: str | None
    discounts: list[bill_view.DiscountAnswer]
    taxes: list[bill_view.TaxAnswer]
    lines: list[LineAnswer]


def answer(one: Drafted) -> InvoiceAnswer:
    """Return an invoice as tasks answer it."""
    header, bill = one.header, one.bill
    return {
        "invoice_id": header.id,
        "tenant_id": header.tenant_id,
        "state": header.state.value,
        "number": header.number,
        "currency": header.currency,
        "subtotal_minor": bill.subtotal_minor,
        "discount_minor": bill.discount_minor,
        "tax_minor": bill.tax_minor,
        "total_minor": header.total_minor,
        "total": str(money.from_minor(header.total_minor, header.currency)),
        "credit_minor": header.credit_minor,
        "amount_due_minor": header.amount_due_minor,
        "paid_minor": header.paid_minor,
        "credited_minor": header.credited_minor,
        "open_minor": header.open_minor,
        "period_start": header.period.start,
        "period_end": header.period.end,
        "timezone": header.timezone,
        "finalized_at": header.finalized_at,
        "due_at": header.due_at,
        "version": header.version,
        "tax_note": bill.tax_note,
        "discounts": bill_view.discounts(bill),
        "taxes": bill_view.taxes(bill),
        "lines": [
            _line(line, header.currency, bill_view.of_line(bill, place))
            for place, line in enumerate(one.lines)
        ],
    }


def _line(line: billing.Line, currency: str, figures: bill_view.LineFigures) -> LineAnswer:
    return {
        "kind": line.kind,
        "metric": line.metric,
        "description": line.description,
        "quantity": plain(line.quantity),
        "unit_amount": None if line.unit_amount is None else plain(line.unit_amount),
        "amount_minor": line.amount_minor,
        "amount": str(money.from_minor(line.amount_minor, currency)),
        "period_start": line.period.start,
        "period_end": line.period.end,
        "subscription_id": line.subscription_id,
        "details": line.details,
        **figures,
    }

"""Invoices and credit notes as rows for accounting: one for each line, one for each tax.

What `total` sums to over the rows of a document is its total; a credit note's amounts are below
zero. A document that was withdrawn has one row of zeros, so that no number is missing.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from models.rules import billing, money, period
from models.rules.decimals import plain
from models.rules.states import InvoiceState
from models.settlement import CreditNote, CreditNoteLine
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks.papers import paper

COLUMNS: Final = (
    "document",
    "number",
    "of_invoice",
    "state",
    "tenant_id",
    "issued_on",
    "due_on",
    "period_first",
    "period_last",
    "row",
    "position",
    "plan_key",
    "price_key",
    "metric",
    "description",
    "quantity",
    "unit_amount",
    "currency",
    "amount",
    "discount",
    "net",
    "tax_key",
    "tax_percent",
    "taxable",
    "tax",
    "total",
)

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula."""

Row = dict[str, str]


def of_invoice(one: Drafted) -> Iterator[Row]:
    """Return the rows of a finalized invoice."""
    header, bill = one.header, one.bill
    head = _head("invoice", header.number, header)
    if header.state is InvoiceState.void:
        yield {**head, "row": "void", **_figures(header.currency)}
        return
    for place, line in enumerate(one.lines):
        discount = sum(part.lines_minor[place] for part in bill.discounts)
        inside = sum(tax.lines_minor[place] for tax in bill.taxes if tax.inclusive)
        yield {
            **head,
            **_line(place + 1, line, header.currency),
            **_figures(
                header.currency,
                amount=line.amount_minor,
                discount=discount,
                net=line.amount_minor - discount - inside,
            ),
        }
    for position, tax in enumerate(bill.taxes, start=1):
        yield {
            **head,
            **_tax(position, tax),
            **_figures(header.currency, taxable=tax.taxable_minor, tax=tax.amount_minor),
        }


def of_credit_note(
    note: CreditNote, lines: Sequence[CreditNoteLine], invoice: Drafted
) -> Iterator[Row]:
    """Return the rows of a credit note."""
    header, taxes = invoice.header, invoice.bill.taxes
    issued = period.local_day(note.created_at, header.zone)
    head = {
        **_head("credit_note", note.number, header),
        "of_invoice": header.number or "",
        "state": "",
        "issued_on": issued.isoformat(),
        "due_on": "",
    }
    for line in lines:
        parts = zip(taxes, line.taxes_minor, strict=True)
        inside = sum(part for tax, part in parts if tax.inclusive)
        yield {
            **head,
            **_line(line.position, invoice.lines[line.position - 1], note.currency),
            "quantity": "",
            "unit_amount": "",
            **_figures(note.currency, amount=-line.amount_minor, net=-(line.amount_minor - inside)),
        }
    for place, tax in enumerate(taxes):
        taken = sum(line.taxes_minor[place] for line in lines)
        yield {
            **head,
            **_tax(place + 1, tax),
            **_figures(note.currency, tax=-taken),
        }


def _head(document: str, number: str | None, header: Header) -> Row:
    blank = dict.fromkeys(COLUMNS, "")
    days = header.days
    return {
        **blank,
        "document": document,
        "number": number or "",
        "state": header.state.value,
        "tenant_id": _text(header.tenant_id),
        "issued_on": _day(header.finalized_at, header),
        "due_on": _day(header.due_at, header),
        "period_first": days.first.isoformat(),
        "period_last": type(days.after).fromordinal(days.after.toordinal() - 1).isoformat(),
    }


def _line(position: int, line: billing.Line, currency: str) -> Row:
    price = line.unit_amount
    return {
        "row": "line",
        "position": str(position),
        "plan_key": _text(line.details.get("plan_key") or ""),
        "price_key": _text(line.details.get("price_key") or ""),
        "metric": _text(line.metric or ""),
        "description": _text(line.description),
        "quantity": plain(line.quantity),
        "unit_amount": "" if price is None else paper.ungrouped(price, currency),
    }


def _tax(position: int, tax: Any) -> Row:
    return {
        "row": "tax",
        "position": str(position),
        "description": _text(tax.name),
        "tax_key": _text(tax.tax_key),
        "tax_percent": plain(tax.percent),
    }


def _figures(
    currency: str,
    *,
    amount: int = 0,
    discount: int = 0,
    net: int = 0,
    taxable: int | None = None,
    tax: int = 0,
) -> Row:
    figures = {
        "amount": amount,
        "discount": discount,
        "net": net,
        "tax": tax,
        "total": net + tax,
    }
    written = {name: str(money.from_minor(minor, currency)) for name, minor in figures.items()}
    base = "" if taxable is None else str(money.from_minor(taxable, currency))
    return {**written, "taxable": base, "currency": currency}


def _day(at: Any, header: Header) -> str:
    return "" if at is None else period.local_day(at, header.zone).isoformat()


def _text(text: str) -> str:
    """A text that a spreadsheet shows and does not carry out."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text

"""An invoice as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.rules import billing, period
from models.rules.states import InvoiceState
from models.rules.waterfall import Bill
from models.settlement import CreditNote, Payment
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks.papers import paper, steps
from tasks.papers.paper import Paper, Row, Sum

STAMPS: Final = {
    InvoiceState.draft: "Draft",
    InvoiceState.finalized: "",
    InvoiceState.paid: "Paid",
    InvoiceState.void: "Void",
    InvoiceState.uncollectible: "Written off",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of an invoice besides its lines: who it is from and to, and what followed."""

    issuer: Mapping[str, Any]
    billed_to: Mapping[str, Any]
    payments: Sequence[Payment] = ()
    notes: Sequence[CreditNote] = ()


def invoice_paper(one: Drafted, told: Told) -> Paper:
    """Return an invoice as it is read, in the local days of its tenant."""
    header = one.header
    return Paper(
        title="Invoice",
        number=header.number or "",
        stamp=STAMPS[header.state],
        sender=paper.party(told.issuer, unnamed="The issuer"),
        receiver=paper.party(told.billed_to, unnamed=header.tenant_id),
        facts=_facts(header),
        currency=header.currency,
        rows=tuple(_row(line, header) for line in one.lines),
        sums=(*_bill(one.bill, header), *_settlement(header, told)),
        remarks=_remarks(one, told),
        footer=tuple(paper.lines_of(told.issuer, "footer")),
    )


def _facts(header: Header) -> tuple[tuple[str, str], ...]:
    zone = header.zone
    facts = [("Customer", header.tenant_id)]
    if header.finalized_at is not None:
        facts.append(("Date of issue", paper.local_day(header.finalized_at, zone)))
    if header.due_at is not None and header.open_minor > 0:
        facts.append(("Due", paper.local_day(header.due_at, zone)))
    facts.append(("Period", paper.days(header.days.first, header.days.after)))
    facts.append(("Time zone", header.timezone))
    return tuple(facts)


def _row(line: billing.Line, header: Header) -> Row:
    return Row(
        description=line.description,
        quantity=paper.quantity(line.quantity),
        unit_price=paper.unit_price(line.unit_amount, header.currency),
        amount=paper.amount(line.amount_minor, header.currency),
        notes=(*_part_of_period(line, header), *_steps(line, header.currency)),
    )


def _part_of_period(line: billing.Line, header: Header) -> list[str]:
    """The days of a line, where they are not all of the invoice's."""
    if line.period == header.period:
        return []
    # Late usage is of the days of the invoice before, which its tenant may have had elsewhere.
    zone = period.zone(line.details.get("timezone", header.timezone))
    if billing.is_by_second(line):
        return [paper.times(line.period, zone) + _of_seconds(line)]
    days = billing.days_between(line.period.start, line.period.end, zone)
    share, whole = line.details.get("days"), line.details.get("days_of_period")
    counted = f", {share} of {whole} days" if share is not None and whole is not None else ""
    return [paper.days(days.first, days.after) + counted]


def _of_seconds(line: billing.Line) -> str:
    """The share of a period in the largest unit that both are whole numbers of."""
    counts = line.details["seconds"], line.details["seconds_of_period"]
    size, name = next(
        (size, name) for size, name in _UNITS if not any(count % size for count in counts)
    )
    return ", {:,} of {:,} {}".format(*(count // size for count in counts), name)


_UNITS: Final = ((3_600, "hours"), (60, "minutes"), (1, "seconds"))


def _steps(line: billing.Line, currency: str) -> list[str]:
    """What the line's tiers, fees and limits come to; a plain line has none."""
    return [_step(step, currency) for step in line.details.get("steps") or ()]


def _step(step: Mapping[str, Any], currency: str) -> str:
    said = ": ".join(filter(None, steps.in_words(step, currency)))
    amount = paper.amount(step["amount_minor"], currency)
    return f"{said} = {amount}" if said else amount


def _bill(bill: Bill, header: Header) -> list[Sum]:
    currency = header.currency
    sums = [Sum("Subtotal", paper.amount(bill.subtotal_minor, currency))]
    for one in bill.discounts:
        rate = "" if one.percent is None else f" ({paper.percent(one.percent)})"
        sums.append(Sum(f"{one.name}{rate}", paper.amount(-one.amount_minor, currency)))
    for tax in bill.taxes:
        inside = ", included" if tax.inclusive else ""
        taxable = paper.amount(tax.taxable_minor, currency)
        label = f"{tax.name} {paper.percent(tax.percent)} on {taxable}{inside}"
        sums.append(Sum(label, paper.amount(tax.amount_minor, currency)))
    total = paper.with_currency(header.total_minor, currency)
    return [*sums, Sum("Total", total, strong=True)]


def _settlement(header: Header, told: Told) -> list[Sum]:
    currency, sums = header.currency, []
    if header.credit_minor > 0:
        sums.append(Sum("Paid from prepaid credit", paper.amount(-header.credit_minor, currency)))
    if header.credit_minor < 0:
        sums.append(Sum("Added to prepaid credit", paper.amount(-header.credit_minor, currency)))
    for payment in told.payments:
        label = f"Payment of {paper.local_day(payment.received_at, header.zone)}"
        applied = payment.amount_minor - payment.excess_minor
        sums.append(Sum(label, paper.amount(-applied, currency)))
    sums.extend(
        Sum(f"Credit note {note.number}", paper.amount(-note.reduced_minor, currency))
        for note in told.notes
        if note.reduced_minor
    )
    due = paper.with_currency(header.open_minor, currency)
    return [*sums, Sum("Amount due", due, strong=True)]


def _remarks(one: Drafted, told: Told) -> tuple[str, ...]:
    remarks = []
    if one.bill.tax_note:
        remarks.append(one.bill.tax_note)
    if one.header.state is InvoiceState.draft:
        remarks.append("This is a draft: it can still change, and asks for no payment.")
    if one.header.state is InvoiceState.void:
        remarks.append(f"Withdrawn: {one.header.closing_note}")
    paid_back = [note for note in told.notes if note.total_minor > note.reduced_minor]
    remarks.extend(
        f"Credit note {note.number} took back "
        f"{paper.with_currency(note.total_minor - note.reduced_minor, note.currency)} of what was "
        "paid."
        for note in paid_back
    )
    if one.header.open_minor > 0 and one.header.state is InvoiceState.finalized:
        remarks.extend(paper.lines_of(told.issuer, "payment_instructions"))
    return tuple(remarks)

"""A credit note as a page."""

from collections.abc import Sequence

from models.settlement import CreditNote, CreditNoteLine
from models.store.drafting import Drafted
from tasks.papers import paper
from tasks.papers.paper import Paper, Row, Sum


def credit_note_paper(note: CreditNote, lines: Sequence[CreditNoteLine], invoice: Drafted) -> Paper:
    """Return a credit note as it is read, beside the invoice it takes back."""
    zone, currency = invoice.header.zone, note.currency
    return Paper(
        title="Credit note",
        number=note.number,
        stamp="",
        sender=paper.party(note.issuer, unnamed="The issuer"),
        receiver=paper.party(note.billed_to, unnamed=note.tenant_id),
        facts=(
            ("Customer", note.tenant_id),
            ("Date of issue", paper.local_day(note.created_at, zone)),
            ("For invoice", invoice.header.number or ""),
            ("Period", paper.days(invoice.header.days.first, invoice.header.days.after)),
            ("Reason", note.reason),
        ),
        currency=currency,
        rows=tuple(_row(line, invoice, currency) for line in lines),
        sums=tuple(_sums(note, lines, invoice)),
        remarks=() if invoice.bill.tax_note is None else (invoice.bill.tax_note,),
        footer=tuple(paper.lines_of(note.issuer, "footer")),
    )


def _row(line: CreditNoteLine, invoice: Drafted, currency: str) -> Row:
    place = line.position - 1
    billed = invoice.bill.net_minor(place)
    whole = line.amount_minor == billed
    discounted = billed != invoice.bill.amounts_minor[place]
    of = f"of {paper.amount(billed, currency)} {'after discounts' if discounted else 'billed'}"
    return Row(
        description=invoice.lines[place].description,
        quantity="",
        unit_price="",
        amount=paper.amount(line.amount_minor, currency),
        notes=() if whole else (of,),
    )


def _sums(note: CreditNote, lines: Sequence[CreditNoteLine], invoice: Drafted) -> list[Sum]:
    sums = [Sum("Subtotal", paper.amount(note.subtotal_minor, note.currency))]
    for place, tax in enumerate(invoice.bill.taxes):
        taken = sum(line.taxes_minor[place] for line in lines)
        inside = ", included" if tax.inclusive else ""
        label = f"{tax.name} {paper.percent(tax.percent)}{inside}"
        sums.append(Sum(label, paper.amount(taken, note.currency)))
    sums.append(
        Sum("Total credited", paper.with_currency(note.total_minor, note.currency), strong=True)
    )
    ways = (
        ("Not owed any more", note.reduced_minor),
        ("Added to prepaid credit", note.to_credit_minor),
        ("To be paid back", note.payout_minor),
    )
    sums.extend(Sum(label, paper.amount(part, note.currency)) for label, part in ways if part)
    return sums

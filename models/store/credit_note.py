"""Credit notes: numbered without gaps, append-only, summed up again for each further one."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.rules import crediting, ids, numbering, period
from models.rules.refusal import Refusal
from models.rules.waterfall import Bill
from models.settlement import CreditNote, CreditNoteLine
from models.store import series
from models.store.invoice import Header
from models.store.issuer import Issuer


class UnknownCreditNote(Refusal):
    """There is no such credit note."""

    code: ClassVar[str] = "credit_note.unknown"


@dataclass(frozen=True, slots=True)
class Refund:
    """What becomes of a note: not owed any more, prepaid credit, or to be paid back."""

    reduced_minor: int
    to_credit_minor: int
    payout_minor: int


def left(session: Session, header: Header, bill: Bill) -> crediting.Lines:
    """Return what is left of each line of an invoice after the credit notes there are."""
    rows = session.execute(
        select(
            CreditNoteLine.position, CreditNoteLine.amount_minor, CreditNoteLine.taxes_minor
        ).where(CreditNoteLine.invoice_id == header.id)
    )
    credited: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        credited[row.position].append(row)
    lines = []
    for place in range(len(bill.amounts_minor)):
        taxes = tuple(tax.lines_minor[place] for tax in bill.taxes)
        net, taken = bill.net_minor(place), credited[place + 1]
        lines.append(
            crediting.Line(
                net=net,
                taxes=taxes,
                net_left=net - sum(row.amount_minor for row in taken),
                taxes_left=tuple(
                    tax - sum(row.taxes_minor[rate] for row in taken)
                    for rate, tax in enumerate(taxes)
                ),
            )
        )
    inclusive = tuple(tax.inclusive for tax in bill.taxes)
    return crediting.Lines(lines, inclusive, header.currency)


def paid_back(session: Session, invoice_id: UUID) -> int:
    """Return how much of an invoice's payments credit notes pay back already, outside."""
    total: int = session.scalars(
        select(func.coalesce(func.sum(CreditNote.payout_minor), 0)).where(
            CreditNote.invoice_id == invoice_id
        )
    ).one()
    return int(total)


def add(
    session: Session,
    header: Header,
    parts: Sequence[crediting.Part],
    *,
    of: crediting.Lines,
    refund: Refund,
    reason: str,
    issuer: Issuer,
    now: dt.datetime,
) -> CreditNote:
    """Number and store a credit note. The series' row is locked from here on: call it last."""
    snapshot = session.execute(
        select(Invoice.issuer, Invoice.billed_to).where(Invoice.id == header.id)
    ).one()
    sequence = series.take(session, issuer.credit_note_series, count=1)
    inside = [
        sum(tax for tax, inclusive in zip(part.taxes_minor, of.inclusive, strict=True) if inclusive)
        for part in parts
    ]
    note = CreditNote(
        id=ids.uuid7(now),
        invoice_id=header.id,
        tenant_id=header.tenant_id,
        series=issuer.credit_note_series,
        sequence=sequence,
        number=numbering.number(
            issuer.number_format,
            series=issuer.credit_note_series,
            sequence=sequence,
            day=period.local_day(now, header.zone),
        ),
        reason=reason,
        currency=header.currency,
        subtotal_minor=sum(part.amount_minor for part in parts),
        tax_minor=sum(sum(part.taxes_minor) for part in parts),
        included_tax_minor=sum(inside),
        total_minor=of.total(parts),
        reduced_minor=refund.reduced_minor,
        to_credit_minor=refund.to_credit_minor,
        payout_minor=refund.payout_minor,
        issuer=snapshot.issuer or issuer.snapshot(),
        billed_to=snapshot.billed_to or {},
        created_at=now,
    )
    session.add(note)
    session.flush()
    session.execute(insert(CreditNoteLine), [_line(note, part) for part in parts])
    return note


def get(session: Session, credit_note_id: UUID) -> CreditNote:
    """Return a credit note.

    Raises:
        UnknownCreditNote: there is none by that id.
    """
    note = session.get(CreditNote, credit_note_id)
    if note is None:
        raise UnknownCreditNote(
            f"credit_note_id {str(credit_note_id)!r} is unknown", field="credit_note_id"
        )
    return note


def lines(
    session: Session, credit_note_ids: Sequence[UUID]
) -> Mapping[UUID, Sequence[CreditNoteLine]]:
    """Return the lines of credit notes, by note, in the order of the invoice's lines."""
    rows = session.scalars(
        select(CreditNoteLine)
        .where(CreditNoteLine.credit_note_id == func.any(list(credit_note_ids)))
        .order_by(CreditNoteLine.position)
    )
    found: dict[UUID, list[CreditNoteLine]] = defaultdict(list)
    for row in rows:
        found[row.credit_note_id].append(row)
    return found


def of_invoices(session: Session, invoice_ids: Sequence[UUID]) -> list[CreditNote]:
    """Return the credit notes of invoices, in the order they were made."""
    return list(
        session.scalars(
            select(CreditNote)
            .where(CreditNote.invoice_id == func.any(list(invoice_ids)))
            .order_by(CreditNote.series, CreditNote.sequence)
        )
    )


def _line(note: CreditNote, part: crediting.Part) -> dict[str, Any]:
    return {
        "credit_note_id": note.id,
        "position": part.place + 1,
        "invoice_id": note.invoice_id,
        "currency": note.currency,
        "amount_minor": part.amount_minor,
        "taxes_minor": list(part.taxes_minor),
    }

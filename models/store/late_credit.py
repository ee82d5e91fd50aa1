"""Late usage that credit notes took back, of the lines that had billed it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceLine
from models.late_usage import LateUsageCredit
from models.rules import money
from models.rules.billing import Line
from models.rules.states import FINAL_INVOICE_STATES
from models.store import invoice_line


@dataclass(frozen=True, slots=True)
class Source:
    """A line of an invoice, `place` counted from 0, less what notes for late usage took back."""

    invoice_id: UUID
    place: int
    line: Line


def sources(session: Session, invoice_id: UUID) -> list[Source]:
    """Return the lines that billed the period of an invoice: its own, then the adjustments that
    other invoices with a number made, the last one first."""
    rows = session.execute(
        select(*invoice_line.COLUMNS, InvoiceLine.position)
        .join(Invoice, Invoice.id == InvoiceLine.invoice_id)
        .where(
            or_(
                InvoiceLine.invoice_id == invoice_id,
                and_(
                    InvoiceLine.adjusts_invoice_id == invoice_id,
                    Invoice.state.in_(sorted(FINAL_INVOICE_STATES)),
                ),
            )
        )
        .order_by(
            InvoiceLine.invoice_id != invoice_id, Invoice.sequence.desc(), InvoiceLine.position
        )
    ).all()
    amounts, quantities = _taken_of(session, {row.invoice_id for row in rows})
    found = []
    for row in rows:
        line, at = invoice_line.read(row), (row.invoice_id, row.position)
        with money.exact():
            left = replace(
                line,
                amount_minor=line.amount_minor - amounts[at],
                quantity=line.quantity - quantities[at],
            )
        found.append(Source(row.invoice_id, row.position - 1, left))
    return found


def taken(session: Session, ids: Sequence[UUID]) -> list[tuple[UUID, Line]]:
    """Return what notes took back of what invoices' periods were billed, wherever that was, as
    lines below zero, each with the invoice of its period."""
    adjusts = InvoiceLine.adjusts_invoice_id
    own = _TAKEN.where(LateUsageCredit.invoice_id == func.any(list(ids)), adjusts.is_(None))
    others = _TAKEN.where(adjusts == func.any(list(ids)))
    return [
        (
            row.adjusts_invoice_id or row.invoice_id,
            replace(
                invoice_line.read(row),
                amount_minor=-row.taken_minor,
                quantity=-row.taken_quantity,
            ),
        )
        for statement in (own, others)
        for row in session.execute(statement)
    ]


def keep(
    session: Session,
    credit_note_id: UUID,
    *,
    invoice_id: UUID,
    currency: str,
    place: int,
    amount_minor: int,
    quantity: Decimal,
) -> None:
    """Store how much less a line of an invoice costs, that a note takes back."""
    session.add(
        LateUsageCredit(
            credit_note_id=credit_note_id,
            position=place + 1,
            invoice_id=invoice_id,
            currency=currency,
            amount_minor=amount_minor,
            quantity=quantity,
        )
    )
    session.flush()


Place = tuple[UUID, int]
"""An invoice and the position of a line on it."""


def _taken_of(
    session: Session, invoice_ids: Collection[UUID]
) -> tuple[Mapping[Place, int], Mapping[Place, Decimal]]:
    rows = session.execute(
        select(
            LateUsageCredit.invoice_id,
            LateUsageCredit.position,
            func.sum(LateUsageCredit.amount_minor).label("amount_minor"),
            func.sum(LateUsageCredit.quantity).label("quantity"),
        )
        .where(LateUsageCredit.invoice_id == func.any(list(invoice_ids)))
        .group_by(LateUsageCredit.invoice_id, LateUsageCredit.position)
    )
    amounts: dict[Place, int] = defaultdict(int)
    quantities: dict[Place, Decimal] = defaultdict(Decimal)
    for row in rows:
        amounts[row.invoice_id, row.position] = int(row.amount_minor)
        quantities[row.invoice_id, row.position] = row.quantity
    return amounts, quantities


_TAKEN: Select[*tuple[Any, ...]] = select(
    *invoice_line.COLUMNS,
    LateUsageCredit.amount_minor.label("taken_minor"),
    LateUsageCredit.quantity.label("taken_quantity"),
).join(
    InvoiceLine,
    and_(
        InvoiceLine.invoice_id == LateUsageCredit.invoice_id,
        InvoiceLine.position == LateUsageCredit.position,
    ),
)

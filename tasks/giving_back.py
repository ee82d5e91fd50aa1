"""What lines of a numbered invoice cost less by now, taken back by a credit note."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from models import database
from models.rules import crediting, money
from models.rules.billing import Line
from models.store import bill, credit_note, drafting, late_credit
from models.store.invoice import Header
from tasks import credit_notes


@dataclass(frozen=True, slots=True)
class Less:
    """How much less a line costs, before its discounts, and of how much; both above or equal 0."""

    amount_minor: int
    quantity: Decimal


def give_back(
    session: database.Session,
    header: Header,
    less: Mapping[int, Less],
    *,
    reason: str,
    refund: str = "payout",
    now: dt.datetime,
) -> bool:
    """Take back what lines of an invoice cost less, with their shares of its discounts and taxes.

    Never more than is left of a line. The tenant is locked. Returns whether anything was left.

    Args:
        less: by the line's place on the invoice, from 0.
    """
    billed = credit_note.left(session, header, bill.read(session, [header.id])[header.id])
    stored = drafting.get(session, header).lines
    amounts = {
        place: min(_net(one.amount_minor, stored[place], billed.lines[place]), left)
        for place, one in less.items()
        if (left := billed.lines[place].net_left) > 0
    }
    amounts = {place: amount for place, amount in amounts.items() if amount > 0}
    if not amounts:
        return False
    parts = crediting.by_line(billed, amounts)
    note = credit_notes.issue(session, header, billed, parts, reason=reason, refund=refund, now=now)
    for place in amounts:
        late_credit.keep(
            session,
            note.id,
            invoice_id=header.id,
            currency=header.currency,
            place=place,
            amount_minor=less[place].amount_minor,
            quantity=less[place].quantity,
        )
    return True


def _net(gross: int, line: Line, billed: crediting.Line) -> int:
    """What is left of an amount after the discounts that its line had."""
    if not line.amount_minor:
        return 0
    return money.round_half_up(Fraction(gross * billed.net, line.amount_minor))

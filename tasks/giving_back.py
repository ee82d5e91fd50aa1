"""What lines of a numbered invoice cost less by now, taken back by a credit note."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from models import database
from models.rules import crediting, late, money
from models.rules.billing import Line
from models.store import bill, credit_note, drafting, invoice, late_credit
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
    as_far_as_left: bool = False,
    now: dt.datetime,
) -> bool:
    """Take back what lines of an invoice cost less, with their shares of its discounts and taxes.

    Never more than is left of a line. The tenant is locked. Returns whether anything was left.

    Args:
        less: by the line's place on the invoice, from 0.
        as_far_as_left: whether no more is taken back than is left of the invoice, which lines
            below zero lessen.

    Raises:
        MoreThanBilled: it is more than is left of the invoice.
    """
    billed = credit_note.left(session, header, bill.read(session, [header.id])[header.id])
    stored = drafting.get(session, header).lines
    amounts = {
        place: min(_net(one.amount_minor, stored[place], billed.lines[place]), left)
        for place, one in less.items()
        if (left := billed.lines[place].net_left) > 0
    }
    amounts = {place: amount for place, amount in amounts.items() if amount > 0}
    wanted = dict(amounts)
    if as_far_as_left:
        amounts = crediting.lowered(billed, amounts)
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
            amount_minor=_share(less[place].amount_minor, amounts[place], of=wanted[place]),
            quantity=less[place].quantity,
        )
    return True


def stuck(session: database.Session, line: Line) -> int:
    """Return how much of what a period costs less no credit note can take back: it is left of the
    lines that billed it, and not of their invoices, which lines below zero lessen.

    Args:
        line: late usage below zero.
    """
    found = 0
    for source in late_credit.sources(session, line.adjusts) if line.adjusts else ():
        if late.key_of(source.line) != late.key_of(line):
            continue
        header = invoice.get(session, source.invoice_id)
        charged = bill.read(session, [header.id])[header.id]
        billed = credit_note.left(session, header, charged)
        one, gross = billed.lines[source.place], charged.amounts_minor[source.place]
        if one.net_left > 0:
            left = min(source.line.amount_minor, _share(gross, one.net_left, of=one.net))
            found += max(0, left - max(0, billed.total_left))
    return min(found, -line.amount_minor)


def _share(gross: int, net: int, *, of: int) -> int:
    """So much of an amount before discounts as `net` is of what it came to after them."""
    return gross if net == of else money.round_half_up(Fraction(gross * net, of))


def _net(gross: int, line: Line, billed: crediting.Line) -> int:
    """What is left of an amount after the discounts that its line had."""
    if not line.amount_minor:
        return 0
    return money.round_half_up(Fraction(gross * billed.net, line.amount_minor))

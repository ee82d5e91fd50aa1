"""What lines of a numbered invoice cost less by now, taken back by a credit note."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

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
    billed, wanted = _wanted(session, header, less)
    amounts = crediting.lowered(billed, wanted) if as_far_as_left else wanted
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


def taken_from(
    session: database.Session, lines: Sequence[Line]
) -> dict[UUID, dict[int, tuple[int, Less]]]:
    """Return from which lines of which invoices late usage below zero is to be taken back: those
    that billed it, its own period's first.

    Returns:
        By invoice and place there: the index of the one of `lines`, and how much less.
    """
    taken: dict[UUID, dict[int, tuple[int, Less]]] = defaultdict(dict)
    less = [(index, one) for index, one in enumerate(lines) if one.amount_minor < 0]
    sources = {
        invoice_id: late_credit.sources(session, invoice_id)
        for invoice_id in dict.fromkeys(one.adjusts for _, one in less)
        if invoice_id is not None
    }
    for index, line in less:
        billed = [
            one
            for one in (sources[line.adjusts] if line.adjusts else ())
            if late.key_of(one.line) == late.key_of(line)
        ]
        parts = late.shared_out(-line.amount_minor, -line.quantity, [one.line for one in billed])
        for source, part in zip(billed, parts, strict=True):
            if part[0]:
                taken[source.invoice_id][source.place] = index, Less(*part)
    return taken


def stuck(session: database.Session, lines: Sequence[Line]) -> list[int]:
    """Return how much of each line of late usage no credit note can take back: it is left of the
    lines that billed it, and not of their invoices, which lines below zero lessen."""
    found = [0] * len(lines)
    for invoice_id, parts in taken_from(session, lines).items():
        less = {place: one for place, (_, one) in parts.items()}
        billed, wanted = _wanted(session, invoice.get(session, invoice_id), less)
        fits = crediting.lowered(billed, wanted)
        for place, amount in wanted.items():
            all_of_it = less[place].amount_minor
            index = parts[place][0]
            found[index] += all_of_it - _share(all_of_it, fits.get(place, 0), of=amount)
    return found


def _wanted(
    session: database.Session, header: Header, less: Mapping[int, Less]
) -> tuple[crediting.Lines, dict[int, int]]:
    """What is left of an invoice, and what of its lines is to be credited, after discounts."""
    billed = credit_note.left(session, header, bill.read(session, [header.id])[header.id])
    stored = drafting.get(session, header).lines
    amounts = {
        place: min(_net(one.amount_minor, stored[place], billed.lines[place]), left)
        for place, one in less.items()
        if (left := billed.lines[place].net_left) > 0
    }
    return billed, {place: amount for place, amount in amounts.items() if amount > 0}


def _share(gross: int, net: int, *, of: int) -> int:
    """So much of an amount before discounts as `net` is of what it came to after them."""
    return gross if net == of else money.round_half_up(Fraction(gross * net, of))


def _net(gross: int, line: Line, billed: crediting.Line) -> int:
    """What is left of an amount after the discounts that its line had."""
    if not line.amount_minor:
        return 0
    return money.round_half_up(Fraction(gross * billed.net, line.amount_minor))

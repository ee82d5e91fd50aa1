"""Credit notes: how much of which line is taken back, with its share of every tax.

Whatever the notes, in whatever order: a line is never credited above what was billed of it, and
notes that together credit all of an invoice sum to it exactly, tax by tax. All amounts are minor
units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

from models.rules import money
from models.rules.refusal import Refusal


class NothingToCredit(Refusal):
    """All that was billed is credited already, or nothing was."""

    code: ClassVar[str] = "credit_note.nothing_left"


class MoreThanBilled(Refusal):
    """A credit note can not take back more than was billed and is not credited yet."""

    code: ClassVar[str] = "credit_note.exceeds_billed"


class UnknownLine(Refusal):
    """The invoice has no such line, or it is named twice."""

    code: ClassVar[str] = "credit_note.unknown_line"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an invoice: what was billed, and what is left of it to be credited.

    `net` is after discounts, with the taxes inside the price and without those on top.
    """

    net: int
    taxes: tuple[int, ...]
    net_left: int
    taxes_left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What a note takes back of the line at `place`."""

    place: int
    amount_minor: int
    taxes_minor: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of an invoice; `inclusive` tells of each tax whether it lies inside the prices."""

    lines: Sequence[Line]
    inclusive: tuple[bool, ...]
    currency: str

    def on_top(self, taxes: Sequence[int]) -> int:
        """The sum of the taxes that are not inside the prices."""
        pairs = zip(taxes, self.inclusive, strict=True)
        return sum(tax for tax, inside in pairs if not inside)

    def left(self, place: int) -> int:
        """What is left of a line, taxes on top included."""
        line = self.lines[place]
        return line.net_left + self.on_top(line.taxes_left)

    @property
    def total_left(self) -> int:
        """What is left of the invoice."""
        return sum(self.left(place) for place in range(len(self.lines)))

    def total(self, parts: Sequence[Part]) -> int:
        """What a note of these parts comes to."""
        return sum(part.amount_minor + self.on_top(part.taxes_minor) for part in parts)

    def shown(self, amount_minor: int) -> str:
        """An amount as people read it."""
        return money.format_minor(amount_minor, self.currency)

    def after(self, parts: Sequence[Part]) -> "Lines":
        """The lines once a note of these parts was made."""
        lines = list(self.lines)
        for part in parts:
            line = lines[part.place]
            taxes = zip(line.taxes_left, part.taxes_minor, strict=True)
            lines[part.place] = replace(
                line,
                net_left=line.net_left - part.amount_minor,
                taxes_left=tuple(left - taken for left, taken in taxes),
            )
        return Lines(lines, self.inclusive, self.currency)


def whole(of: Lines) -> list[Part]:
    """All that is left of every line. Raises NothingToCredit."""
    parts = [
        _rest(of, place)
        for place, line in enumerate(of.lines)
        if line.net_left or any(line.taxes_left)
    ]
    if not parts or of.total_left <= 0:
        raise NothingToCredit("nothing of this invoice is left to be credited")
    return parts


def by_line(of: Lines, amounts: Mapping[int, int]) -> list[Part]:
    """So much of each line as it was priced, by its place; the taxes follow.

    Raises:
        UnknownLine: there is no line at a place.
        MoreThanBilled: an amount is not above 0, or more than is left of its line; or together
            they are more than is left of the invoice, which lines below zero lessen.
    """
    for place, amount in amounts.items():
        _check_line(of, place, amount)
    found = _parts(of, amounts)
    if not 0 < of.total(found) <= of.total_left:
        raise MoreThanBilled(
            f"the lines come to {of.shown(of.total(found))} with their taxes; they must be above 0 "
            f"and at most {of.shown(of.total_left)}, what is left of the invoice",
            field="lines",
        )
    return found


def lowered(of: Lines, amounts: Mapping[int, int]) -> dict[int, int]:
    """Return amounts of lines, the last ones lowered or left out, so that a note of them comes to
    no more than is left of the invoice."""
    kept = dict(sorted(amounts.items()))
    for place in reversed(list(kept)):
        # More than once where a tax is rounded up on what stays.
        while kept.get(place) and (excess := of.total(_parts(of, kept)) - of.total_left) > 0:
            without_tax = -(-excess * of.lines[place].net // _gross(of, place))
            kept[place] -= min(kept[place], without_tax)
            if not kept[place]:
                del kept[place]
    return kept


def by_amount(of: Lines, total_minor: int) -> list[Part]:
    """So much of the whole, taxes included: spread over its lines by what is left of them.

    Raises:
        MoreThanBilled: the amount is not above 0, or more than is left of the invoice.
    """
    if total_minor == of.total_left > 0:
        return whole(of)
    if not 0 < total_minor < of.total_left:
        raise MoreThanBilled(
            f"amount {of.shown(total_minor)} must be above 0 and at most "
            f"{of.shown(of.total_left)}, what is left of the invoice",
            field="amount",
        )
    left = [max(0, of.left(place)) for place in range(len(of.lines))]
    spread = money.allocate(total_minor, [Decimal(one) for one in left])
    wanted = {place: gross for place, gross in enumerate(spread) if gross}
    rests = [_rest(of, place) for place, gross in wanted.items() if gross == of.left(place)]
    shares = {
        place: Fraction(gross, _gross(of, place))
        for place, gross in wanted.items()
        if gross != of.left(place)
    }
    taxes = _taxes(of, shares)
    parts = [_fit(of, place, wanted[place], taxes[place]) for place in shares]
    return sorted([*rests, *parts], key=_place)


def _parts(of: Lines, amounts: Mapping[int, int]) -> list[Part]:
    rests = [
        _rest(of, place) for place, amount in amounts.items() if amount == of.lines[place].net_left
    ]
    shares = {
        place: Fraction(amount, of.lines[place].net)
        for place, amount in amounts.items()
        if amount != of.lines[place].net_left
    }
    taxes = _taxes(of, shares)
    parts = [Part(place, amounts[place], taxes[place]) for place in shares]
    return sorted([*rests, *parts], key=_place)


def _check_line(of: Lines, place: int, amount: int) -> None:
    if not 0 <= place < len(of.lines):
        raise UnknownLine(
            f"the invoice has no line {place + 1}; it has {len(of.lines)}", field="lines"
        )
    left = of.lines[place].net_left
    if not 0 < amount <= left:
        raise MoreThanBilled(
            f"amount {of.shown(amount)} of line {place + 1} must be above 0 and at most "
            f"{of.shown(left)}, what is left of it",
            field="lines",
        )


def _rest(of: Lines, place: int) -> Part:
    line = of.lines[place]
    return Part(place, line.net_left, line.taxes_left)


def _gross(of: Lines, place: int) -> int:
    line = of.lines[place]
    return line.net + of.on_top(line.taxes)


def _taxes(of: Lines, shares: Mapping[int, Fraction]) -> dict[int, tuple[int, ...]]:
    """The taxes of parts of lines: each rounded once over the note, at most what is left."""
    places = list(shares)
    columns = []
    for rate in range(len(of.inclusive)):
        exact = [shares[place] * of.lines[place].taxes[rate] for place in places]
        parts = money.apportion(money.round_half_up(sum(exact, Fraction(0))), exact)
        columns.append(
            [
                min(part, of.lines[place].taxes_left[rate])
                for place, part in zip(places, parts, strict=True)
            ]
        )
    return {place: tuple(column[row] for column in columns) for row, place in enumerate(places)}


def _fit(of: Lines, place: int, gross: int, taxes: tuple[int, ...]) -> Part:
    """A part of a line that comes to `gross`: the rounding of its taxes is made up by its amount,
    and by the taxes again where the amount would be below 0 or above what is left."""
    line, fitted = of.lines[place], list(taxes)
    for rate, inside in enumerate(of.inclusive):
        if inside:
            continue
        amount = gross - of.on_top(fitted)
        too_much = max(0, amount - line.net_left)
        fitted[rate] += min(too_much, line.taxes_left[rate] - fitted[rate])
        fitted[rate] -= min(max(0, -amount), fitted[rate])
    return Part(place, gross - of.on_top(fitted), tuple(fitted))


def _place(part: Part) -> int:
    return part.place

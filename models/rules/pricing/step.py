"""The addends of a line: what people follow an amount by."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from models.rules import decimals, money

NOTHING: Final = Fraction(0)
ONE: Final = Decimal(1)


class StepKind(StrEnum):
    """What an addend charges for, or takes off."""

    units = "units"
    """`quantity` units at `unit_amount` for each `per` of them."""
    percent = "percent"
    """`unit_amount` per cent of `quantity`."""
    flat_fee = "flat_fee"
    """A tier's fee, once, because usage came into it."""
    package = "package"
    """`quantity` packages of `per` units at `unit_amount` each."""
    block = "block"
    """`quantity` blocks of `per` units at `unit_amount` each."""
    capacity = "capacity"
    """The fee of a tier that every peak fits into."""
    event_fee = "event_fee"
    """A fee for each of `quantity` events."""
    event_minimum = "event_minimum"
    """`quantity` events that would cost less than the least an event costs."""
    event_maximum = "event_maximum"
    """`quantity` events that would cost more than the most an event costs."""
    charged = "charged"
    """What the events themselves said they cost, times `unit_amount`."""
    free = "free"
    """`quantity` that is not charged."""
    minimum = "minimum"
    """What is missing to the least a period costs."""
    maximum = "maximum"
    """What is above the most a period costs, taken off."""
    billed = "billed"
    """What was billed before, taken off."""


@dataclass(frozen=True, slots=True)
class Step:
    """One addend of a line. `amount` is exact, in major units.

    Args:
        quantity: of what `kind` says.
        unit_amount: what one (or `per` of them) costs; a percentage for `percent`; None where
            there is no such thing.
        tier: the place of the tier it is in, from 0 on; None where there are no tiers.
        above, up_to: the bounds of that tier, the upper one inclusive; None where there is none.
        of: the part of the usage it is about, such as "model = atlas"; None for all of it.
        amount_minor: `amount` as it is shown: in minor units, such that the steps of a line add up
            to its rounded amount.
    """

    kind: StepKind
    quantity: Fraction
    unit_amount: Decimal | None
    amount: Fraction
    per: Decimal = ONE
    tier: int | None = None
    above: Fraction | None = None
    up_to: Fraction | None = None
    of: str | None = None
    amount_minor: int = 0

    def times(self, share: Fraction | int) -> "Step":
        """Return the same step `share` times."""
        return replace(self, quantity=self.quantity * share, amount=self.amount * share)


def units(
    quantity: Fraction,
    unit_amount: Decimal,
    *,
    per: Decimal = ONE,
) -> Step:
    """Return the step of `quantity` units at `unit_amount` for each `per` of them."""
    amount = quantity * Fraction(unit_amount)
    if per != ONE:
        amount /= Fraction(per)
    return Step(StepKind.units, quantity, unit_amount, amount, per)


def fee(kind: StepKind, count: Fraction | int, each: Decimal) -> Step:
    """Return the step of `count` fees of `each`."""
    return Step(kind, Fraction(count), each, count * Fraction(each))


def free(quantity: Fraction) -> Step:
    """Return the step of what is not charged."""
    return Step(StepKind.free, quantity, None, NOTHING)


def merged(steps: Iterable[Step]) -> list[Step]:
    """Return steps with those of one tier and part added up, in the order in which they came."""
    found: dict[tuple[object, ...], list[Step]] = defaultdict(list)
    for one in steps:
        found[one.kind, one.tier, one.of, one.unit_amount].append(one)
    return [_sum(alike) for alike in found.values()]


def _sum(alike: Sequence[Step]) -> Step:
    if len(alike) == 1:
        return alike[0]
    return replace(
        alike[0],
        quantity=sum((one.quantity for one in alike), NOTHING),
        amount=sum((one.amount for one in alike), NOTHING),
    )


def in_minor(steps: Sequence[Step], currency: str) -> list[Step]:
    """Return steps with their share of the rounded sum, which they add up to.

    Each is rounded down and what is left over goes to the largest remainders, ties to the earlier.
    Raises money.UnknownCurrency.
    """
    scale: int = 10 ** money.minor_unit(currency)
    exact = [step.amount * scale for step in steps]
    floors = [amount.numerator // amount.denominator for amount in exact]
    total = money.round_half_up(sum(exact, NOTHING))
    by_remainder = sorted(range(len(steps)), key=lambda place: floors[place] - exact[place])
    for place in by_remainder[: total - sum(floors)]:
        floors[place] += 1
    return [replace(step, amount_minor=minor) for step, minor in zip(steps, floors, strict=True)]


def as_json(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Return steps as an invoice line keeps them, without what does not apply; numbers are text."""
    return [_as_json(one) for one in steps]


def _as_json(one: Step) -> dict[str, Any]:
    said = {
        "kind": one.kind.value,
        "of": one.of,
        "above": one.above,
        "up_to": one.up_to,
        "quantity": one.quantity,
        "unit_amount": one.unit_amount,
        "per": None if one.per == ONE else one.per,
        "amount": one.amount,
    }
    texts = {name: _text(value) for name, value in said.items() if value is not None}
    return {**texts, "amount_minor": one.amount_minor}


def _text(value: str | Decimal | Fraction) -> str:
    if isinstance(value, Fraction):
        value = decimals.of_fraction(value)
    return decimals.plain(value) if isinstance(value, Decimal) else value

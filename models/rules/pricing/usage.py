"""What a price is rated over: quantities by part of the usage, and the events they come from."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

from models.rules import money
from models.rules.pricing.filter import text_of
from models.rules.pricing.percentage import NO_REST, Rest
from models.rules.pricing.price import Price
from models.rules.refusal import Refusal

_ZERO: Final = Decimal(0)

Amounts = tuple[tuple[Decimal, int], ...]
"""Quantities that are priced each by itself, and how many there are of each."""


@dataclass(frozen=True, slots=True)
class Part:
    """Usage that is priced together.

    Args:
        amounts: for a price by event its amounts in order; for `max_per` the greatest value of each
            stretch of time; for a recurring price each level and for how many days it lasted; else
            the one total.
        filter: the place of the price's filter it falls in; None for none of them.
        group: its value of the price's `group_by`.
        charged: what its events say they cost, in major units, for a dynamic price.
        rest: events of a price by event that are only summed: what they come to, and how many they
            are. Their order does not matter, and none costs the least or the most of an event.
        sum: what all of it comes to, where `amounts` do not say; like amounts may be as one.
    """

    amounts: Amounts
    filter: int | None = None
    group: str | None = None
    charged: Decimal = _ZERO
    rest: Rest = NO_REST
    sum: Decimal | None = None

    @property
    def quantity(self) -> Decimal:
        """All of it. Raises money.AmountOutOfRange."""
        if self.sum is not None:
            return self.sum
        for amount, _ in self.amounts:
            money.exact_fraction(amount)
        return _sum(amount * count for amount, count in self.amounts)


def part_order(part: tuple[int | None, str | None]) -> tuple[bool, int, str]:
    """Return by what the parts of usage, as (filter, group), are in order: the rest comes last."""
    place, group = part
    return place is None, place or 0, group or ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used over the days of a line, as finely as its price has to know it.

    Args:
        days_of_period: of the whole billing period, for a recurring price.
    """

    parts: tuple[Part, ...]
    days_of_period: int = 1

    @property
    def quantity(self) -> Decimal:
        """All of it. Raises money.AmountOutOfRange."""
        if len(self.parts) == 1 and len(self.parts[0].amounts) == 1:
            (amount, count) = self.parts[0].amounts[0]
            if count == 1 and self.parts[0].sum is None:
                return amount
        return _sum(part.quantity for part in self.parts)


NOTHING: Final = Usage(())
"""What a fee is charged for."""


def total(quantity: Decimal) -> Usage:
    """Return usage of which only the sum matters."""
    return Usage((Part(((quantity, 1),)),))


def recurring(amounts: Amounts, *, days_of_period: int) -> Usage:
    """Return usage that lives on: each level and for how many days it lasted."""
    return Usage((Part(amounts),), days_of_period)


def levels(before: Decimal, changes: Iterable[Decimal]) -> Amounts:
    """Return how many units there were, and for how many days, from the change of each day.

    Args:
        before: units from before the first day. The day of a change has the new level.
    """
    found: list[tuple[Decimal, int]] = []
    level = before
    with money.exact():
        for change in changes:
            level += change
            if found and found[-1][0] == level:
                found[-1] = (level, found[-1][1] + 1)
            else:
                found.append((level, 1))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Event:
    """A usage event, as far as a price looks at it. `at` is in the tenant's local time."""

    amount: Decimal
    at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Unpriceable(Refusal):
    """Usage lacks what its price is made of."""

    code: ClassVar[str] = "usage.unpriceable"


def of_events(price: Price, events: Sequence[Event]) -> Usage:
    """Return what events come to, whose amounts are added up.

    Args:
        events: in the order in which they happened.

    Raises:
        Unpriceable: an event does not say what the price needs.
    """
    found: dict[tuple[int | None, str | None], list[Event]] = defaultdict(list)
    for place in price.places:
        if price.group_by is None:
            found[place, None] = []
    for event in events:
        group = (
            None if price.group_by is None else text_of(event.metadata.get(price.group_by)) or ""
        )
        found[price.place_of(event.metadata), group].append(event)
    return Usage(
        tuple(
            Part(_amounts(price, chosen), place, group, charged_by(price, chosen))
            for (place, group), chosen in sorted(
                found.items(), key=lambda item: part_order(item[0])
            )
        )
    )


def charged_by(price: Price, events: Sequence[Event]) -> Decimal:
    """Return what events say they cost, if that is what the price asks. Raises Unpriceable."""
    if price.amount_field is None:
        return _ZERO
    said = [event.metadata.get(price.amount_field) for event in events]
    return _sum(_number(value, price.amount_field) for value in said)


def _amounts(price: Price, events: Sequence[Event]) -> Amounts:
    if price.is_by_event:
        return tuple((event.amount, 1) for event in events)
    if price.max_per is None:
        return ((_sum(event.amount for event in events), 1),)
    start_of: Callable[[datetime], datetime] = price.max_per.start_of
    greatest: dict[datetime, Decimal] = {}
    for event in events:
        if event.at is None:
            raise Unpriceable(
                f"an event has no `at`, and the price is for the most per {price.max_per}"
            )
        start = start_of(event.at)
        greatest[start] = max(event.amount, greatest.get(start, event.amount))
    return tuple((greatest[start], 1) for start in sorted(greatest))


def _number(value: Any, name: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise Unpriceable(f"metadata.{name} {value!r} must be a number: what the event costs")
    return number


def _sum(values: Iterable[Decimal]) -> Decimal:
    with money.exact():
        return sum(values, _ZERO)

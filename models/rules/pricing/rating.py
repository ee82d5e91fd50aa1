"""Rating: usage x price -> a line, computed exactly and rounded once to the minor unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

from models.rules import decimals, money
from models.rules.pricing import step
from models.rules.pricing.blocks import Capacity
from models.rules.pricing.percentage import Dynamic, Percentage
from models.rules.pricing.price import Price
from models.rules.pricing.step import Step, StepKind
from models.rules.pricing.units import Fixed, PerUnit
from models.rules.pricing.usage import Part, Usage, total

WHOLE: Final = Fraction(1)
"""The share of a line over all days of its period."""

MOST_GROUPS: Final = 50
"""Groups that are shown each by itself; of more, like steps are added up."""

_QUANTITY_DECIMALS: Final = 12
"""Of units by day, whose quantity is an average."""


@dataclass(frozen=True, slots=True)
class Line:
    """Rated usage: `amount` is exact, in major units; `amount_minor` is it rounded once.

    `unit_amount` is None where no single one applies (tiers). The amounts of `steps` sum to
    `amount`, their amounts in minor units to `amount_minor`.
    """

    quantity: Decimal
    unit_amount: Decimal | None
    amount: Fraction
    amount_minor: int
    steps: tuple[Step, ...]

    @property
    def is_plain(self) -> bool:
        """Whether quantity and unit amount say all there is to say."""
        if self.unit_amount is None or len(self.steps) != 1:
            return False
        # As integers: a fraction takes several times longer to compare itself with a decimal.
        quantity = self.steps[0].quantity
        return self.quantity.as_integer_ratio() == (quantity.numerator, quantity.denominator)


def rate(
    price: Price, usage: Usage, currency: str, *, share: Fraction = WHOLE, is_final: bool = True
) -> Line:
    """The line for usage at a price; corrections may make it negative. Exact at any size.

    Args:
        share: of the billing period that the line is over, more than 0 and at most 1.
        is_final: whether the period is over; before that its minimum is not charged.

    Raises money.UnknownCurrency, money.AmountOutOfRange.
    """
    if price.is_plain and len(usage.parts) == 1:
        return _plain_line(price.unit_price, usage.quantity, currency)
    reduced = share if price.prorate else WHOLE
    steps = step.in_minor(step.merged(_steps(price, usage, reduced)), currency)
    limited = [*steps, *_limits(price, steps, currency, reduced, is_final=is_final)]
    return _line(price, usage, limited, currency)


def fee(price: Price, seats: Decimal, currency: str, *, share: Fraction = WHOLE) -> Line:
    """The line for `seats` at a price that is a fee, for their `share` of a period.

    Raises money.UnknownCurrency, money.AmountOutOfRange.
    """
    by_seat = isinstance(price.default.terms, Fixed)
    if (price.is_plain or by_seat) and share == WHOLE:
        return _plain_line(price.unit_price, seats, currency)
    times = money.exact_fraction(seats) * share if by_seat else share
    one = price.default.steps(step.ONE if by_seat else seats, WHOLE)
    steps = step.in_minor([each.times(times) for each in one], currency)
    return _line(price, total(seats), steps, currency)


def less(line: Line, billed: Fraction, currency: str) -> Line:
    """Return what is still to be charged of a line when `billed` of it was, in major units."""
    off = _difference(StepKind.billed, line.amount, line.amount - billed, currency)
    return replace(
        line,
        amount=line.amount + off.amount,
        amount_minor=line.amount_minor + off.amount_minor,
        steps=(*line.steps, off),
    )


def _plain_line(unit_price: Decimal | None, quantity: Decimal, currency: str) -> Line:
    """What the rest of this module would say, in a third of the time: nearly every price is so."""
    assert unit_price is not None  # noqa: S101 (it would not be plain)
    exact = money.exact_fraction(quantity)
    numerator, denominator = unit_price.as_integer_ratio()
    amount = Fraction(exact.numerator * numerator, exact.denominator * denominator)
    minor = _minor(amount, currency)
    one = Step(StepKind.units, exact, unit_price, amount, amount_minor=minor)
    return Line(quantity, unit_price, amount, minor, (one,))


def _steps(price: Price, usage: Usage, share: Fraction) -> Iterator[Step]:
    if isinstance(price.default.terms, Capacity):
        yield from price.default.terms.steps(_peaks(usage), share)
    elif price.recurring:
        for part in usage.parts:
            yield from _recurring_steps(price, part, usage.days_of_period, share)
    else:
        groups = {part.group for part in usage.parts}
        for part in usage.parts:
            name = _name(price, part, shows_group=len(groups) <= MOST_GROUPS)
            for one in _part_steps(price, part, share):
                yield one if name is None else replace(one, of=name)


def _part_steps(price: Price, part: Part, share: Fraction) -> Iterator[Step]:
    tariff = price.tariff(part.filter)
    match tariff.terms:
        case Percentage() as terms:
            yield from terms.steps(part.amounts, share, rest=part.rest)
        case Dynamic() as terms:
            yield from terms.steps(part.charged, share)
        case _:
            for quantity, count in part.amounts:
                for one in tariff.steps(quantity, share):
                    yield one if count == 1 else one.times(count)


def _recurring_steps(
    price: Price, part: Part, days_of_period: int, share: Fraction
) -> Iterator[Step]:
    """Each level for its days; fees of tiers once, because units came into them."""
    levels = [(max(level, Decimal(0)), days) for level, days in part.amounts]
    for level, days in levels:
        for one in price.default.steps(level, WHOLE):
            if one.kind is not StepKind.flat_fee:
                yield one.times(Fraction(days, days_of_period))
    highest = max((level for level, _ in levels), default=Decimal(0))
    for one in price.default.steps(highest, WHOLE):
        if one.kind is StepKind.flat_fee:
            yield one.times(share)


def _peaks(usage: Usage) -> dict[str, Fraction]:
    return {
        part.group or "": max(
            (money.exact_fraction(amount) for amount, _ in part.amounts), default=step.NOTHING
        )
        for part in usage.parts
    }


def _name(price: Price, part: Part, *, shows_group: bool) -> str | None:
    names = []
    if price.filters:
        names.append("the rest" if part.filter is None else price.filters[part.filter].name)
    if price.group_by is not None and shows_group:
        names.append(f"{price.group_by} = {part.group}")
    return ", ".join(names) or None


def _limits(
    price: Price, steps: Sequence[Step], currency: str, share: Fraction, *, is_final: bool
) -> Iterator[Step]:
    """What is missing to the least, or above the most; usage is rounded before it is compared."""
    if price.min_spend is None and price.max_spend is None:
        return
    amount = sum((one.amount for one in steps), step.NOTHING)
    rounded = _minor(amount, currency)
    if price.min_spend is not None and is_final:
        least = Fraction(price.min_spend) * share
        if rounded < _minor(least, currency):
            yield _difference(StepKind.minimum, amount, least, currency)
    if price.max_spend is not None:
        most = Fraction(price.max_spend) * share
        if rounded > _minor(most, currency):
            yield _difference(StepKind.maximum, amount, most, currency)


def _difference(kind: StepKind, before: Fraction, after: Fraction, currency: str) -> Step:
    """The step that turns one amount into another, also where both are rounded."""
    minor = _minor(after, currency) - _minor(before, currency)
    return Step(kind, Fraction(1), None, after - before, amount_minor=minor)


def _minor(amount: Fraction, currency: str) -> int:
    scale: int = 10 ** money.minor_unit(currency)
    return money.divided_half_up(amount.numerator * scale, amount.denominator)


def _line(price: Price, usage: Usage, steps: Sequence[Step], currency: str) -> Line:
    amount = sum((one.amount for one in steps), step.NOTHING)
    return Line(
        quantity=_quantity(price, usage),
        unit_amount=_unit_amount(price),
        amount=amount,
        amount_minor=_minor(amount, currency),
        steps=tuple(steps),
    )


def _quantity(price: Price, usage: Usage) -> Decimal:
    if isinstance(price.default.terms, Capacity):
        # Peaks of different things do not add up.
        return step.ONE
    if not price.recurring:
        return usage.quantity
    days = Fraction(usage.days_of_period)
    levels = (
        Fraction(max(level, Decimal(0))) * count
        for part in usage.parts
        for level, count in part.amounts
    )
    return decimals.of_fraction(sum(levels, step.NOTHING) / days, _QUANTITY_DECIMALS)


def _unit_amount(price: Price) -> Decimal | None:
    """What each unit costs, where that and the quantity say it all."""
    terms = price.default.terms
    if price.filters or (isinstance(terms, PerUnit) and terms.per != step.ONE):
        return None
    return price.unit_price

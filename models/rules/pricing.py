"""Rating: quantity x price -> a line, computed exactly and rounded once to the minor unit."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, assert_never

from models.rules import money

MAX_DECIMALS: Final = 12
"""Decimals a unit price may have."""


class Model(StrEnum):
    """How a quantity becomes an amount."""

    fixed = "fixed"
    """A fee per period, whatever the quantity."""
    per_unit = "per_unit"
    """The same amount for each unit."""


class InvalidPrice(ValueError):
    """The price can not be charged."""

    def __init__(self, unit_amount: Decimal) -> None:
        super().__init__(
            f"unit amount {str(unit_amount)[:40]} can not be charged: it must be zero or more, "
            f"below 10^{money.MAX_DIGITS}, with at most {MAX_DECIMALS} decimals"
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit (per_unit) or one period (fixed) costs, in major units of the line's currency.

    Raises InvalidPrice for a `unit_amount` that is negative, not finite, too large or finer than
    MAX_DECIMALS.
    """

    model: Model
    unit_amount: Decimal

    def __post_init__(self) -> None:
        amount = self.unit_amount
        if not amount.is_finite() or amount < 0 or amount.adjusted() >= money.MAX_DIGITS:
            raise InvalidPrice(amount)
        with money.exact():
            finest_units = amount.scaleb(MAX_DECIMALS)
            if finest_units != finest_units.to_integral_value():
                raise InvalidPrice(amount)


@dataclass(frozen=True, slots=True)
class Step:
    """One addend of a line, for people to follow: `quantity` at `unit_amount` makes `amount`."""

    quantity: Decimal
    unit_amount: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """A rated quantity: `amount` is exact, in major units; `amount_minor` is it rounded once.

    `unit_amount` is None where no single one applies (tiers). The amounts of `detail` sum to
    `amount`.
    """

    quantity: Decimal
    unit_amount: Decimal | None
    amount: Decimal
    amount_minor: int
    detail: tuple[Step, ...]


def rate(price: Price, quantity: Decimal, currency: str) -> Line:
    """The line for `quantity` units at `price` in `currency`; corrections may make it negative.

    A fixed price is charged once, whatever the quantity. Exact at any size of quantity.
    Raises money.UnknownCurrency, money.AmountOutOfRange.
    """
    match price.model:
        case Model.fixed:
            return _line((_step(Decimal(1), price.unit_amount),), currency)
        case Model.per_unit:
            return _line((_step(quantity, price.unit_amount),), currency)
        case _:
            assert_never(price.model)


def _step(quantity: Decimal, unit_amount: Decimal) -> Step:
    with money.exact():
        return Step(quantity, unit_amount, quantity * unit_amount)


def _line(steps: tuple[Step, ...], currency: str) -> Line:
    with money.exact():
        quantity = sum((step.quantity for step in steps), Decimal(0))
        amount = sum((step.amount for step in steps), Decimal(0))
    return Line(
        quantity=quantity,
        unit_amount=steps[0].unit_amount if len(steps) == 1 else None,
        amount=amount,
        amount_minor=money.to_minor(amount, currency),
        detail=steps,
    )

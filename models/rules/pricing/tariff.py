"""Models of price, and how one part of the usage is priced by one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final, assert_never

from models.rules import money
from models.rules.meter import Rounding, RoundingMode
from models.rules.pricing import checks, step
from models.rules.pricing.blocks import Blocks, Capacity
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.percentage import Dynamic, Percentage
from models.rules.pricing.step import Step
from models.rules.pricing.tiers import Graduated, GraduatedPercentage, Volume
from models.rules.pricing.units import Fixed, Package, PerUnit


class Model(StrEnum):
    """How a quantity becomes an amount."""

    fixed = "fixed"
    """A fee per period, whatever the quantity."""
    per_unit = "per_unit"
    """The same amount for each unit."""
    graduated = "graduated"
    """Each tier's part of the units at the tier's own price."""
    volume = "volume"
    """All units at the price of the tier that the total is in."""
    package = "package"
    """An amount for each package of units."""
    percentage = "percentage"
    """A rate of each event's amount, with fees, allowances and limits."""
    graduated_percentage = "graduated_percentage"
    """Each tier's part of an amount at the tier's own rate."""
    block = "block"
    """An amount for each begun block of units, by tiers."""
    capacity = "capacity"
    """The fee of the tier that every peak fits into."""
    dynamic = "dynamic"
    """What the events themselves say they cost."""


Terms = (
    Fixed
    | PerUnit
    | Graduated
    | Volume
    | Package
    | Percentage
    | GraduatedPercentage
    | Blocks
    | Capacity
    | Dynamic
)

MODELS: Final[Mapping[type, Model]] = {
    Fixed: Model.fixed,
    PerUnit: Model.per_unit,
    Graduated: Model.graduated,
    Volume: Model.volume,
    Package: Model.package,
    Percentage: Model.percentage,
    GraduatedPercentage: Model.graduated_percentage,
    Blocks: Model.block,
    Capacity: Model.capacity,
    Dynamic: Model.dynamic,
}

OF_FEES: Final = (Fixed, PerUnit, Graduated, Volume, Package, Blocks)
"""What can be a fee for seats."""

OF_QUANTITIES: Final = (PerUnit, Graduated, Volume, Package, GraduatedPercentage, Blocks)
"""What prices a quantity whichever way it came together."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """How one part of the usage is priced.

    Args:
        free_units: units that are not charged, the first ones.
        quantity_rounding: what is done to a quantity before it is priced.
    """

    terms: Terms
    free_units: Decimal = Decimal(0)
    quantity_rounding: Rounding | None = None

    def __post_init__(self) -> None:
        checks.amount("free_units", self.free_units)
        for name in ("free_units", "quantity_rounding"):
            value = getattr(self, name)
            if value and not isinstance(self.terms, OF_QUANTITIES):
                must = f"must be left out: a {MODELS[type(self.terms)]} price has no use for it"
                raise InvalidPrice.of(name, value, must)

    @property
    def model(self) -> Model:
        """Which model its terms are of."""
        return MODELS[type(self.terms)]

    def steps(self, quantity: Decimal, share: Fraction) -> Iterator[Step]:
        """Return what a quantity costs, with allowances and fees reduced to `share`.

        Raises money.AmountOutOfRange. The terms must be OF_QUANTITIES, or a fee.
        """
        assert isinstance(self.terms, OF_FEES + OF_QUANTITIES)  # noqa: S101 (rating sees to it)
        exact = money.exact_fraction(quantity)
        if self.quantity_rounding is not None:
            exact = rounded(exact, self.quantity_rounding)
        if self.free_units and exact > 0:
            free = min(exact, Fraction(self.free_units) * share)
            yield step.free(free)
            exact -= free
        yield from self.terms.steps(exact, share)


def rounded(quantity: Fraction, rounding: Rounding) -> Fraction:
    """Return a quantity rounded as a price says; `decimals` below 0 rounds to tens, hundreds, …"""
    unit = Fraction(10) ** -rounding.decimals
    units = quantity / unit
    down, rest = divmod(abs(units), 1)
    match rounding.mode:
        case RoundingMode.half_up:
            whole = down + (rest * 2 >= 1)
        case RoundingMode.up:
            whole = down + (rest > 0)
        case RoundingMode.down:
            whole = down
        case _:
            assert_never(rounding.mode)
    return unit * (whole if units > 0 else -whole)

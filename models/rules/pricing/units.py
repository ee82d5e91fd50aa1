"""Prices of one amount: a fee, so much a unit, so much a package."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from models.rules.pricing import checks, step
from models.rules.pricing.step import Step, StepKind


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fee of `unit_price` for a period, whatever the quantity. Raises InvalidPrice."""

    unit_price: Decimal

    def __post_init__(self) -> None:
        checks.amount("unit_price", self.unit_price)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:  # noqa: ARG002
        """Return the fee."""
        yield step.units(Fraction(1), self.unit_price)


@dataclass(frozen=True, slots=True)
class PerUnit:
    """`unit_price` for each `per` units, as 3.00 for a million tokens. Raises InvalidPrice."""

    unit_price: Decimal
    per: Decimal = step.ONE

    def __post_init__(self) -> None:
        checks.amount("unit_price", self.unit_price)
        checks.size("per", self.per)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:  # noqa: ARG002
        """Return what `quantity` units cost; below zero they give back."""
        yield step.units(quantity, self.unit_price, per=self.per)


class PackageRounding(StrEnum):
    """Whether a package that is not full counts."""

    up = "up"
    """A package that was begun is charged."""
    down = "down"
    """Only full packages are."""


@dataclass(frozen=True, slots=True)
class Package:
    """`package_price` for each `package_size` units. Raises InvalidPrice."""

    package_size: Decimal
    package_price: Decimal
    rounding: PackageRounding = PackageRounding.up

    def __post_init__(self) -> None:
        checks.size("package_size", self.package_size)
        checks.amount("package_price", self.package_price)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:  # noqa: ARG002
        """Return the packages that `quantity` units fill; none below zero."""
        packages = max(quantity, step.NOTHING) / Fraction(self.package_size)
        whole = packages.numerator // packages.denominator
        begun = self.rounding is PackageRounding.up and whole != packages
        count = Fraction(whole + begun)
        yield Step(
            StepKind.package,
            count,
            self.package_price,
            count * Fraction(self.package_price),
            per=self.package_size,
        )

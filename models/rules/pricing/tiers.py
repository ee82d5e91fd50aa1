"""Prices by tiers: each tier's part at its own price, or everything at the tier of the total."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import Final, TypeVar

from models.rules.pricing import checks, step
from models.rules.pricing.step import Step, StepKind

_ZERO: Final = Decimal(0)
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Tier:
    """Up to and including `up_to` units (None: without end), each at `unit_price`.

    `flat_fee` is charged once when usage comes into the tier; into the first one it always does.
    """

    up_to: Decimal | None
    unit_price: Decimal = _ZERO
    flat_fee: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class PercentTier:
    """The same for amounts of money, each at `rate_percent`."""

    up_to: Decimal | None
    rate_percent: Decimal = _ZERO
    flat_fee: Decimal = _ZERO


AnyTier = TypeVar("AnyTier", Tier, PercentTier)


class TierLookup(StrEnum):
    """By which number the tier of a volume is found."""

    units = "units"
    """As it is."""
    whole_units = "ceil(units)"
    """As the next whole number; what it costs is not rounded."""


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each tier's part of the units at the tier's own price. Raises InvalidPrice."""

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        _check(self.tiers)
        for place, tier in enumerate(self.tiers):
            checks.amount(f"tiers[{place}].unit_price", tier.unit_price)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:
        """Return what `quantity` units cost in tiers (bounds and fees) reduced to `share`.

        A quantity below zero gives back at the first tier's price.
        """
        for tier, above, up_to, inside in _entered(self.tiers, quantity, share):
            yield step.units(inside, tier.unit_price, above=above, up_to=up_to)
            yield from _flat_fee(tier, above, up_to, share)


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """Each tier's part of an amount of money at the tier's own rate. Raises InvalidPrice."""

    tiers: tuple[PercentTier, ...]

    def __post_init__(self) -> None:
        _check(self.tiers)
        for place, tier in enumerate(self.tiers):
            checks.amount(f"tiers[{place}].rate_percent", tier.rate_percent)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:
        """Return what an amount of `quantity` costs in tiers reduced to `share`."""
        for tier, above, up_to, inside in _entered(self.tiers, quantity, share):
            amount = inside * Fraction(tier.rate_percent) / _PERCENT
            yield Step(
                StepKind.percent, inside, tier.rate_percent, amount, above=above, up_to=up_to
            )
            yield from _flat_fee(tier, above, up_to, share)


@dataclass(frozen=True, slots=True)
class Volume:
    """All units at the price of the tier that the total is in. Raises InvalidPrice.

    Buying more may cost less, on purpose.
    """

    tiers: tuple[Tier, ...]
    tier_lookup: TierLookup = TierLookup.units

    def __post_init__(self) -> None:
        _check(self.tiers)
        for place, tier in enumerate(self.tiers):
            checks.amount(f"tiers[{place}].unit_price", tier.unit_price)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:
        """Return what `quantity` units cost in tiers (bounds and fees) reduced to `share`."""
        whole = self.tier_lookup is TierLookup.whole_units
        sought = Fraction(ceil(quantity)) if whole else quantity
        above: Fraction | None = None
        for tier in self.tiers:
            up_to = _reduced(tier.up_to, share)
            if up_to is None or sought <= up_to:
                yield step.units(quantity, tier.unit_price, above=above, up_to=up_to)
                yield from _flat_fee(tier, above, up_to, share)
                return
            above = up_to


def _entered(
    tiers: Sequence[AnyTier], quantity: Fraction, share: Fraction
) -> Iterator[tuple[AnyTier, Fraction | None, Fraction | None, Fraction]]:
    """The tiers that usage came into, with their bounds and what is inside of each."""
    above = step.NOTHING
    for place, tier in enumerate(tiers):
        up_to = _reduced(tier.up_to, share)
        inside = (quantity if up_to is None else min(quantity, up_to)) - above
        if place > 0 and inside <= 0:
            return
        yield tier, above if place > 0 else None, up_to, inside
        if up_to is not None:
            above = up_to


def _reduced(bound: Decimal | None, share: Fraction) -> Fraction | None:
    return None if bound is None else Fraction(bound) * share


def _flat_fee(
    tier: Tier | PercentTier, above: Fraction | None, up_to: Fraction | None, share: Fraction
) -> Iterator[Step]:
    if tier.flat_fee:
        amount = Fraction(tier.flat_fee) * share
        yield Step(StepKind.flat_fee, share, tier.flat_fee, amount, above=above, up_to=up_to)


def _check(tiers: Sequence[AnyTier]) -> None:
    checks.rising("tiers", [tier.up_to for tier in tiers])
    for place, tier in enumerate(tiers):
        checks.amount(f"tiers[{place}].flat_fee", tier.flat_fee)

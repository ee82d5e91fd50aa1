"""Prices by tiers: each tier's part at its own price, or everything at the tier of the total."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import Final, TypeVar

from models.rules.pricing import checks
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
        for span, tier, inside in _entered(self.tiers, quantity, share):
            amount = inside * Fraction(tier.unit_price)
            yield span.step(StepKind.units, inside, tier.unit_price, amount)
            yield from span.flat_fee(tier, share)


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
        for span, tier, inside in _entered(self.tiers, quantity, share):
            amount = inside * Fraction(tier.rate_percent) / _PERCENT
            yield span.step(StepKind.percent, inside, tier.rate_percent, amount)
            yield from span.flat_fee(tier, share)


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
        for span, tier in _spans(self.tiers, share):
            if span.up_to is None or sought <= span.up_to:
                amount = quantity * Fraction(tier.unit_price)
                yield span.step(StepKind.units, quantity, tier.unit_price, amount)
                yield from span.flat_fee(tier, share)
                return


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a tier lies."""

    tier: int
    above: Fraction | None
    up_to: Fraction | None

    def step(self, kind: StepKind, quantity: Fraction, price: Decimal, amount: Fraction) -> Step:
        return Step(
            kind, quantity, price, amount, tier=self.tier, above=self.above, up_to=self.up_to
        )

    def flat_fee(self, tier: Tier | PercentTier, share: Fraction) -> Iterator[Step]:
        if tier.flat_fee:
            amount = Fraction(tier.flat_fee) * share
            yield self.step(StepKind.flat_fee, share, tier.flat_fee, amount)


def _spans(tiers: Sequence[AnyTier], share: Fraction) -> Iterator[tuple[_Span, AnyTier]]:
    above: Fraction | None = None
    for place, tier in enumerate(tiers):
        up_to = None if tier.up_to is None else Fraction(tier.up_to) * share
        yield _Span(place, above, up_to), tier
        above = up_to


def _entered(
    tiers: Sequence[AnyTier], quantity: Fraction, share: Fraction
) -> Iterator[tuple[_Span, AnyTier, Fraction]]:
    """The tiers that usage came into, and what is inside of each."""
    for span, tier in _spans(tiers, share):
        if span.above is not None and quantity <= span.above:
            return
        inside = quantity if span.up_to is None else min(quantity, span.up_to)
        yield span, tier, inside if span.above is None else inside - span.above


def _check(tiers: Sequence[AnyTier]) -> None:
    checks.rising("tiers", [tier.up_to for tier in tiers])
    for place, tier in enumerate(tiers):
        checks.amount(f"tiers[{place}].flat_fee", tier.flat_fee)

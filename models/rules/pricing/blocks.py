"""Prices by blocks of units, each begun block charged whole; by capacity that peaks fit into."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from models.rules.pricing import checks, step
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.step import Step, StepKind


class BlockCharge(StrEnum):
    """At which tier's blocks units are charged."""

    all_tiers = "all_tiers"
    """Each tier's part in blocks of its own."""
    top_tier = "top_tier"
    """Everything in blocks of the tier that the total is in."""


@dataclass(frozen=True, slots=True)
class Block:
    """A tier of `max_blocks` blocks (None: without end) of `block_size` units at `price` each."""

    block_size: Decimal
    max_blocks: Decimal | None
    price: Decimal

    @property
    def units(self) -> Fraction | None:
        """The units of all its blocks."""
        if self.max_blocks is None:
            return None
        return Fraction(self.max_blocks) * Fraction(self.block_size)

    def holding(
        self, quantity: Fraction, tier: int, above: Fraction | None, up_to: Fraction | None
    ) -> Step:
        """Return the step of the blocks that `quantity` units begin, of the tier in a place."""
        blocks = max(quantity, step.NOTHING) / Fraction(self.block_size)
        count = Fraction(-(-blocks.numerator // blocks.denominator))
        return Step(
            StepKind.block,
            count,
            self.price,
            count * Fraction(self.price),
            per=self.block_size,
            tier=tier,
            above=above,
            up_to=up_to,
        )


@dataclass(frozen=True, slots=True)
class Blocks:
    """Units in begun blocks; what is above every tier belongs to the last. Raises InvalidPrice."""

    blocks: tuple[Block, ...]
    charge: BlockCharge = BlockCharge.all_tiers

    def __post_init__(self) -> None:
        if not 1 <= len(self.blocks) <= checks.MOST_TIERS:
            must = f"must be 1 to {checks.MOST_TIERS} of them"
            raise InvalidPrice.of("blocks", len(self.blocks), must)
        for place, block in enumerate(self.blocks):
            path = f"blocks[{place}]"
            checks.size(f"{path}.block_size", block.block_size)
            checks.amount(f"{path}.price", block.price)
            checks.size(f"{path}.max_blocks", block.max_blocks)
            if block.max_blocks is None and place < len(self.blocks) - 1:
                must = "must be a number: only the last tier is open"
                raise InvalidPrice.of(f"{path}.max_blocks", None, must)

    def steps(self, quantity: Fraction, share: Fraction) -> Iterator[Step]:  # noqa: ARG002
        """Return the blocks that `quantity` units begin. Blocks are sold whole: none is reduced."""
        above: Fraction | None = None
        for place, block in enumerate(self.blocks):
            below, inside = above or step.NOTHING, block.units
            is_last = inside is None or place == len(self.blocks) - 1
            up_to = None if inside is None or is_last else below + inside
            is_top = up_to is None or quantity <= up_to
            if self.charge is BlockCharge.all_tiers:
                taken = quantity if up_to is None else min(quantity, up_to)
                yield block.holding(taken - below, place, above, up_to)
            elif is_top:
                yield block.holding(quantity, place, above, up_to)
            if is_top:
                return
            above = up_to


@dataclass(frozen=True, slots=True)
class Room:
    """A tier of capacity: the fee of a period in which no peak is above its limit.

    `limits` are by the name of what peaks; what is not named has none.
    """

    limits: Mapping[str, Decimal]
    price: Decimal


@dataclass(frozen=True, slots=True)
class Capacity:
    """The fee of the first tier that every peak fits into, else of the last. Raises InvalidPrice.

    One peak above its limit moves everything to the next tier.
    """

    tiers: tuple[Room, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.tiers) <= checks.MOST_TIERS:
            must = f"must be 1 to {checks.MOST_TIERS} of them"
            raise InvalidPrice.of("tiers", len(self.tiers), must)
        for place, tier in enumerate(self.tiers):
            checks.amount(f"tiers[{place}].price", tier.price)
            for name, limit in tier.limits.items():
                checks.amount(f"tiers[{place}].limits.{name}", limit)

    def steps(self, peaks: Mapping[str, Fraction], share: Fraction) -> Iterator[Step]:
        """Return the fee for the period's peaks, by name, reduced to `share`."""
        fitting = (
            tier
            for tier in self.tiers
            if all(peaks.get(name, step.NOTHING) <= limit for name, limit in tier.limits.items())
        )
        tier = next(fitting, self.tiers[-1])
        yield Step(StepKind.capacity, share, tier.price, Fraction(tier.price) * share)

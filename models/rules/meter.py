"""How the events of a metric become a quantity: what counts, how it is put together, rounding."""

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final, assert_never

from models.rules.refusal import Refusal

MOST_DECIMALS: Final = 12
"""Decimals a quantity may be rounded to: as fine as an amount."""

MOST_DIGITS: Final = 200
"""Digits that are surely enough for a quantity: rounding is exact."""


class Aggregation(StrEnum):
    """What the values of a period's events come to; 0 where there are none."""

    sum = "sum"
    """All added up."""
    count = "count"  # type: ignore[assignment]  # a member, not the method of str
    """How many events there are."""
    max = "max"
    """The greatest."""
    unique_count = "unique_count"
    """How many different ones there are."""
    latest = "latest"
    """That of the event with the greatest (at, received_at, id)."""


class RoundingMode(StrEnum):
    """Where a quantity between two steps goes."""

    half_up = "half_up"
    """To the nearer one, from the middle away from zero."""
    up = "up"
    """Away from zero."""
    down = "down"
    """Towards zero."""


_WIDE: Final = decimal.Context(prec=MOST_DIGITS)
"""Of its own, whatever the caller's context keeps or raises."""

_MODES: Final = {
    RoundingMode.half_up: decimal.ROUND_HALF_UP,
    RoundingMode.up: decimal.ROUND_UP,
    RoundingMode.down: decimal.ROUND_DOWN,
}


class InvalidMeter(Refusal):
    """What a meter says contradicts itself."""

    code: ClassVar[str] = "meter.invalid"


@dataclass(frozen=True, slots=True)
class Rounding:
    """How the quantity of a period is rounded, once. `decimals` is 0 to 12."""

    decimals: int
    mode: RoundingMode

    def apply(self, quantity: Decimal) -> Decimal:
        """Return the quantity, rounded; exact at any size."""
        step = Decimal(1).scaleb(-self.decimals)
        return quantity.quantize(step, rounding=_MODES[self.mode], context=_WIDE)


@dataclass(frozen=True, slots=True)
class Definition:
    """What is counted.

    Args:
        value_field: the key of an event's metadata under which its value is; None is its amount.
            An event without a value there does not count.
        filters: an event counts if, for each key, its metadata has one of the texts.
    """

    aggregation: Aggregation = Aggregation.sum
    value_field: str | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.aggregation is Aggregation.count and self.value_field is not None:
            raise InvalidMeter(
                f"aggregation 'count' counts events, so value_field {self.value_field!r} would "
                "have no effect; leave it out, or count different values with 'unique_count'",
                field="value_field",
            )

    @property
    def needs_number(self) -> bool:
        """Whether the value in an event's metadata has to be a number."""
        return self.value_field is not None and self.aggregation is not Aggregation.unique_count


PLAIN: Final = Definition()
"""How a metric without a meter is counted: its amounts are added up."""


@dataclass(frozen=True, slots=True)
class Terms:
    """All that is said of a metric."""

    definition: Definition = PLAIN
    unit: str | None = None
    rounding: Rounding | None = None
    allow_corrections: bool = False
    active: bool = True

    def quantity(self, exact: Decimal) -> Decimal:
        """Return what is billed of a period's exact total."""
        return exact if self.rounding is None else self.rounding.apply(exact)


UNMETERED: Final = Terms()
"""What holds for a metric nobody made a meter for."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a part of a stretch of time comes to, and how many events counted in it."""

    total: Decimal
    event_count: int


def put_together(aggregation: Aggregation, earlier: Part, later: Part) -> Decimal:
    """Return what two parts of a stretch come to together, exactly.

    Of different values only where one part has none: how many are in both, the parts do not tell.
    """
    if not earlier.event_count:
        return later.total
    if not later.event_count:
        return earlier.total
    match aggregation:
        case Aggregation.sum | Aggregation.count:
            with decimal.localcontext(prec=MOST_DIGITS):
                return earlier.total + later.total
        case Aggregation.max:
            return max(earlier.total, later.total)
        case Aggregation.latest:
            return later.total
        case Aggregation.unique_count:
            raise ValueError("different values of two parts can not be put together")
        case _:
            assert_never(aggregation)

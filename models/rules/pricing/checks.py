"""What a number of a price must be, and the refusal that says so."""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final

from models.rules import money
from models.rules.refusal import Refusal

MAX_DECIMALS: Final = 12
"""Decimals an amount, a bound or a rate may have."""

LARGEST: Final = Decimal(10) ** 18
"""What each of them must be below."""

MOST_TIERS: Final = 100
"""Tiers, or blocks, of one price."""

LONGEST_KEY: Final = 64
"""Characters of a key of an event's metadata."""

_NUMBER: Final = f"below 10^18, with at most {MAX_DECIMALS} decimals"
_LONGEST_SHOWN: Final = 60


class InvalidPrice(Refusal):
    """A field of a price has a value that can not be charged by."""

    code: ClassVar[str] = "price.invalid"

    place: str = ""
    value: object = None
    must: str = ""

    @classmethod
    def of(cls, field: str, value: object, must: str) -> "InvalidPrice":
        """Return what to say of a field.

        Args:
            field: where it is, such as "tiers[1].up_to".
            value: what was given; None where nothing was.
            must: what would be right, beginning with "must".
        """
        given = value.value if isinstance(value, StrEnum) else value
        shown = str(given) if isinstance(given, Decimal) else repr(given)
        said = "" if value is None else f"{shown[:_LONGEST_SHOWN]} "
        refusal = cls(f"{field} {said}{must}", field=field)
        refusal.place, refusal.value, refusal.must = field, value, must
        return refusal

    def under(self, path: str) -> "InvalidPrice":
        """Return the same refusal of a field that lies deeper, under `path`."""
        return InvalidPrice.of(
            f"{path}.{self.place}" if path else self.place, self.value, self.must
        )


def amount(field: str, value: Decimal | None) -> None:
    """Check a number that may be zero; None is none. Raises InvalidPrice."""
    if value is not None and not (_is_sensible(value) and value >= 0):
        raise InvalidPrice.of(field, value, f"must be zero or more, {_NUMBER}")


def size(field: str, value: Decimal | None) -> None:
    """Check a number that is divided by or counted up to; None is none. Raises InvalidPrice."""
    if value is not None and not (_is_sensible(value) and value > 0):
        raise InvalidPrice.of(field, value, f"must be more than zero, {_NUMBER}")


def key(field: str, value: str) -> None:
    """Check a key of an event's metadata. Raises InvalidPrice."""
    if not (1 <= len(value) <= LONGEST_KEY and value.isprintable()):
        must = f"must have 1 to {LONGEST_KEY} characters, none of them a control"
        raise InvalidPrice.of(field, value, must)


def rising(field: str, bounds: Sequence[Decimal | None]) -> None:
    """Check the upper bounds of tiers: each above the one before it, the last one open.

    Raises InvalidPrice.
    """
    if not 1 <= len(bounds) <= MOST_TIERS:
        raise InvalidPrice.of(field, len(bounds), f"must be 1 to {MOST_TIERS} of them")
    before = Decimal(0)
    for place, bound in enumerate(bounds[:-1]):
        if bound is None:
            must = "must be a number: only the last tier is open"
            raise InvalidPrice.of(f"{field}[{place}].up_to", bound, must)
        size(f"{field}[{place}].up_to", bound)
        if bound <= before:
            must = f"must be more than that of the tier before it, {before}"
            raise InvalidPrice.of(f"{field}[{place}].up_to", bound, must)
        before = bound
    if bounds[-1] is not None:
        must = "must be null: the last tier takes whatever is above the others"
        raise InvalidPrice.of(f"{field}[{len(bounds) - 1}].up_to", bounds[-1], must)


def _is_sensible(value: Decimal) -> bool:
    if not value.is_finite() or len(value.as_tuple().digits) > money.MAX_DIGITS:
        return False
    if abs(value) >= LARGEST or value.adjusted() < -money.MAX_DIGITS:
        return False
    with money.exact():
        finest = value.scaleb(MAX_DECIMALS)
        return finest == finest.to_integral_value()

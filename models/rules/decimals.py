"""Exact numbers as text and as decimals."""

from decimal import Decimal
from fractions import Fraction
from typing import Final

from models.rules import money

MOST_DECIMALS: Final = 24
"""Decimals of a fraction that is stored: those of a quantity and of a price, 12 each, together."""


def plain(value: Decimal) -> str:
    """Return a decimal without exponent or trailing zeros: `1E+3` is "1000", `2.500` is "2.5"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def of_fraction(value: Fraction, decimals: int = MOST_DECIMALS) -> Decimal:
    """Return a fraction as a decimal, rounded half up where it has more than `decimals`."""
    scaled = money.round_half_up(value * 10**decimals)
    digits = tuple(int(digit) for digit in str(abs(scaled)))
    return Decimal((int(scaled < 0), digits, -decimals))

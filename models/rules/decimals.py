"""Exact numbers as text."""

from decimal import Decimal


def plain(value: Decimal) -> str:
    """Return a decimal without exponent or trailing zeros: `1E+3` is "1000", `2.500` is "2.5"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text

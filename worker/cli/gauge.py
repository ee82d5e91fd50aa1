"""A part of a whole as a bar."""

from decimal import Decimal
from typing import Final

BLOCKS: Final = ("█", "░")
ASCII: Final = ("#", ".")
"""Where the terminal has no blocks."""

WIDTH: Final = 20
"""Characters of a bar."""


def gauge(part: Decimal, whole: Decimal, *, glyphs: tuple[str, str] = BLOCKS) -> str:
    """Return a bar of `WIDTH` characters, as much of it full as `part` is of `whole`.

    It is never empty above 0 and never full below the whole; more than the whole is full. Of a
    whole of 0 everything is full.
    """
    full, empty = glyphs
    length = _length(part, whole)
    return full * length + empty * (WIDTH - length)


def _length(part: Decimal, whole: Decimal) -> int:
    if part >= whole:
        return WIDTH
    if part <= 0:
        return 0
    return min(WIDTH - 1, max(1, int(part * WIDTH / whole)))

"""How full something is, as a bar."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

WIDTH: Final = 12
"""Characters."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a bar is made of: what is free, what is held, what is gone."""

    free: str
    held: str
    gone: str


BLOCKS: Final = Marks("█", "▒", "░")
ASCII: Final = Marks("#", "+", ".")
"""Where the terminal has no blocks."""


def bar(*, whole: Decimal, remaining: Decimal, held: Decimal, marks: Marks = BLOCKS) -> str:
    """Return how much of `whole` (above 0) remains, and how much of that is held.

    Something that remains is never shown as nothing, and less than the whole never as the whole.
    """
    left = _cells(remaining, whole)
    set_aside = min(_cells(held, whole), left)
    return marks.free * (left - set_aside) + marks.held * set_aside + marks.gone * (WIDTH - left)


def _cells(part: Decimal, whole: Decimal) -> int:
    if part <= 0:
        return 0
    if part >= whole:
        return WIDTH
    return min(max(round(part * WIDTH / whole), 1), WIDTH - 1)

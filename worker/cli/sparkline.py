"""A row of numbers as a row of small bars."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = ".:-=+*%#"
"""Where the terminal has no blocks."""


def sparkline(values: Sequence[Decimal | None], *, levels: str = BLOCKS) -> str:
    """Return one character a value: from 0 to the highest, a blank for None.

    A value above 0 that is not the highest is never shown as the highest, and one below 0 is shown
    as 0.
    """
    top = max((value for value in values if value is not None), default=Decimal(0))
    return "".join(_bar(value, top, levels) for value in values)


def _bar(value: Decimal | None, top: Decimal, levels: str) -> str:
    if value is None:
        return " "
    if value <= 0 or top <= 0:
        return levels[0]
    return levels[int(value * (len(levels) - 1) / top)]

"""Work of many pieces, done by a few statements: how many pieces each of them does."""

from collections.abc import Callable
from typing import Final, Protocol


class Turns(Protocol):
    """Who decides how many pieces a statement does, and when there is no time for another."""

    def take(self, count: int, do: Callable[[int, int], None], *, first: int) -> int:
        """Do pieces 1 to `count`, and return how many are done: some, if there are any.

        Args:
            do: does the pieces after the first number, up to the second.
            first: how many the first statement does: nobody knows yet how long one takes.
        """


class AtOnce:
    """One statement for all."""

    def take(self, count: int, do: Callable[[int, int], None], *, first: int) -> int:  # noqa: ARG002
        """Do them all."""
        if count:
            do(0, count)
        return count


AT_ONCE: Final = AtOnce()

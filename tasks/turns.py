"""Statements of some seconds each: none runs out of time, and a run ends when its time is up."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

SHORT, LONG = 1.0, 4.0
"""Seconds that a statement should take at least and at most."""


@dataclass(frozen=True, slots=True)
class Timed:
    """More pieces a statement while they are done quickly, fewer when they are not.

    Args:
        deadline: by `time.monotonic`, when the rest is left; inf if all must be done.
    """

    deadline: float = math.inf

    def take(self, count: int, do: Callable[[int, int], None], *, first: int) -> int:
        """Do pieces 1 to `count` (see `models.store.turns.Turns`)."""
        done, size = 0, first
        while done < count:
            began = time.monotonic()
            upto = min(count, done + size)
            do(done, upto)
            done, ended = upto, time.monotonic()
            if ended >= self.deadline:
                break
            if ended - began < SHORT:
                size *= 4
            elif ended - began > LONG:
                size = max(1, size // 2)
        return done

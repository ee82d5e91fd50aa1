"""Rounds: every way of doing a job takes its turn, so that a noisy minute hits them all."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.report import Measure

ROUNDS = 3
"""Turns of each way; `use` sets another number."""

_rounds = ROUNDS

Way = Callable[[], float]
"""Does the job once and returns how many a second. What it prepares first is not counted."""


class Rates:
    """What each way reached in each round."""

    def __init__(self, unit: str, rates: Mapping[str, Sequence[float]]) -> None:
        self._unit = unit
        self._rates = rates

    def beside(self, name: str, floor: str, *, job: str, aim: float | None = None) -> Measure:
        """Compare a way with its floor, round by round.

        Args:
            job: what the name of the measure begins with.
        """
        pairs = list(zip(self._rates[name], self._rates[floor], strict=True))
        return Measure(
            name=f"{job}: {name}",
            rate=median(self._rates[name]),
            unit=self._unit,
            floor=floor,
            floor_rate=median(self._rates[floor]),
            ratio=median(rate / least for rate, least in pairs),
            aim=aim,
            rounds=len(pairs),
        )


def use(rounds: int) -> None:
    """Play so many rounds from now on, at least 1."""
    global _rounds  # noqa: PLW0603 (the run has one number)
    _rounds = rounds


def play(unit: str, ways: Mapping[str, Way], *, most: int = ROUNDS) -> Rates:
    """Let each way take its turn in each round, at `most` so many, every other one in reverse."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(min(_rounds, most)):
        for name in sorted(ways, key=list(ways).index, reverse=number % 2 == 1):
            rates[name].append(ways[name]())
    return Rates(unit, rates)


def rate(count: int, work: Callable[[], object]) -> float:
    """Do `work`, which is `count` of something, and return how many a second that was."""
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def scaled(count: int, scale: float, *, least: int = 1) -> int:
    """Return a size at a scale, `least` or more."""
    return max(least, round(count * scale))

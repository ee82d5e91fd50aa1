"""A queue played event by event: what a formula about it is held against."""

import heapq
import random
from collections.abc import Callable


def waits(
    arrivals: float, service: Callable[[], float], processes: int, *, count: int, seed: int
) -> list[float]:
    """Return how long each of so many waited for a process, first come first served.

    Args:
        arrivals: a second, at random.
        service: returns the seconds that the next one takes.
    """
    chance = random.Random(seed)
    free_at = [0.0] * processes
    now, waited = 0.0, []
    for _ in range(count):
        now += chance.expovariate(arrivals)
        begins = max(now, heapq.heappop(free_at))
        waited.append(begins - now)
        heapq.heappush(free_at, begins + service())
    return waited

"""How long work waits for a process: the queue M/M/c, Erlang's second formula.

Arrivals at random at a rate `arrivals`, c processes that each end work at random after `service`
seconds on average, first come first served. Work here takes much the same time each, so it waits
less than this says (about half as long when all takes exactly as long); producers that send in
bursts make it wait longer. Source: A. K. Erlang, 1917; in today's words: Gross, Shortle, Thompson,
Harris, Fundamentals of Queueing Theory, chapter "Simple Markovian queueing models".
"""

import math


def waits(arrivals: float, service: float, processes: int) -> float:
    """Return the probability that work has to wait: Erlang C; 1.0 where the queue never ends.

    Args:
        arrivals: a second, 0 or more.
        service: seconds that one takes, above 0.
        processes: 1 or more.
    """
    offered = arrivals * service
    if offered >= processes:
        return 1.0
    blocked = 1.0  # Erlang B, by its recursion: the direct sum overflows
    for count in range(1, processes + 1):
        blocked = offered * blocked / (count + offered * blocked)
    utilisation = offered / processes
    return blocked / (1 - utilisation * (1 - blocked))


def wait(arrivals: float, service: float, processes: int, *, quantile: float = 0.99) -> float:
    """Return how many seconds work waits at most, in `quantile` of all cases; inf for no end."""
    spare = processes / service - arrivals
    if spare <= 0:
        return math.inf
    waiting = waits(arrivals, service, processes)
    return max(0.0, math.log(waiting / (1 - quantile)) / spare) if waiting > 0 else 0.0


def processes_for(arrivals: float, service: float, *, share: float) -> int:
    """Return the fewest processes, 1 or more, that are busy for at most `share` of the time."""
    return max(1, math.ceil(arrivals * service / share - 1e-9))

"""How long work waits for a process: the formula beside books and beside a queue that is played."""

import math
import random
from statistics import fmean

import pytest

from tests.unit import simulated_queue
from worker.sizing import queueing

PLAYED = 200_000
TOLERANCE = 0.08
"""Of a figure: waits are heaped, and so many arrivals say little more of the slowest hundredth."""

SERVICE = 0.05


def mean_wait(arrivals: float, service: float, processes: int) -> float:
    return queueing.waits(arrivals, service, processes) / (processes / service - arrivals)


@pytest.mark.parametrize(
    ("offered", "processes", "expected"),
    [(0.5, 1, 0.5), (1.0, 2, 1 / 3), (2.0, 3, 4 / 9), (0.0, 4, 0.0), (3.0, 3, 1.0), (9.0, 3, 1.0)],
)
def test_the_chance_to_wait_is_that_of_the_books(
    offered: float, processes: int, expected: float
) -> None:
    assert queueing.waits(offered / SERVICE, SERVICE, processes) == pytest.approx(expected)


@pytest.mark.parametrize(("processes", "busy"), [(1, 0.6), (2, 0.7), (8, 0.8)])
def test_a_queue_that_is_played_waits_as_long_as_the_formula_says(
    processes: int, busy: float
) -> None:
    arrivals = processes * busy / SERVICE
    chance = random.Random(1)
    waited = sorted(
        simulated_queue.waits(
            arrivals,
            lambda: chance.expovariate(1 / SERVICE),
            processes,
            count=PLAYED,
            seed=2,
        )
    )

    def near(expected: float) -> object:
        return pytest.approx(expected, rel=TOLERANCE)

    assert sum(wait > 0 for wait in waited) / PLAYED == near(
        queueing.waits(arrivals, SERVICE, processes)
    )
    assert fmean(waited) == near(mean_wait(arrivals, SERVICE, processes))
    assert waited[PLAYED * 99 // 100] == near(queueing.wait(arrivals, SERVICE, processes))


@pytest.mark.parametrize("processes", [1, 4])
def test_work_that_takes_the_same_time_each_waits_about_half_as_long(processes: int) -> None:
    arrivals = processes * 0.7 / SERVICE

    waited = simulated_queue.waits(arrivals, lambda: SERVICE, processes, count=PLAYED, seed=3)

    share = fmean(waited) / mean_wait(arrivals, SERVICE, processes)
    assert 0.4 < share < 0.65


def test_a_queue_that_gets_more_than_it_can_take_never_ends() -> None:
    assert queueing.wait(21.0, SERVICE, 1) == math.inf


def test_processes_are_as_many_as_are_busy_for_no_more_than_their_share() -> None:
    assert queueing.processes_for(0.0, SERVICE, share=0.6) == 1
    assert queueing.processes_for(12.0, SERVICE, share=0.6) == 1
    assert queueing.processes_for(12.1, SERVICE, share=0.6) == 2

"""What the roll-up takes: a touched day of few events is counted from all of them, each time.

Of a day that is full the quarter hour that is going on is counted, and the day added up. Each is
taken to be about to end, and events to fall on all metrics of all tenants at random; metrics that
rest make it cheaper. One look follows the other: two at once wait for each other's totals.
"""

import math
from dataclasses import dataclass

from models.store.locked_days import FULL
from worker.sizing.costs import EVENT_COUNTED, QUARTER_HOUR, Cost, Costs, distinct
from worker.sizing.workload import Limits, Workload

QUARTER_SECONDS = 900.0

TURNS = 60
"""Until a look takes as long as what came in since the one before."""

HOPELESS = 3_600.0
"""Seconds for which nobody waits for a look to end: more comes in than it gets counted."""


@dataclass(frozen=True, slots=True)
class RollUp:
    """The roll-up at the end of a day.

    Args:
        every: seconds from one look's beginning to the next's; inf when it falls behind for ever.
        seconds: that one look takes.
        worker_cores, database_cores: processors that are busy with it all the time.
        totals: that change, a second.
        wal: bytes logged a second.
    """

    every: float
    seconds: float
    worker_cores: float
    database_cores: float
    totals: float
    wal: float

    @property
    def fresh(self) -> float:
        """Seconds until an event is in its day's total, at most."""
        return self.every + self.seconds


def roll_up(workload: Workload, costs: Costs, limits: Limits) -> RollUp:
    """Return what the roll-up takes when the day is about to end."""
    every = limits.ring
    for _ in range(TURNS):
        seconds = _look(workload, costs, limits, every)
        if seconds <= every:
            break
        every = seconds
        if every > HOPELESS:
            every = math.inf
            break
    shown = min(every, HOPELESS)
    look = _of_chunk(workload, costs, limits, shown)
    per_second = _chunks(workload, limits, shown) / shown
    if math.isinf(every):
        # It never gets done: what it would need is more than one look after the other has.
        per_second *= shown / _look(workload, costs, limits, shown)
    return RollUp(
        every=every,
        seconds=_look(workload, costs, limits, shown),
        worker_cores=look.worker_us / 1e6 * per_second,
        database_cores=look.database_us / 1e6 * per_second,
        totals=_touched(workload, limits, shown) * per_second,
        wal=look.wal_bytes * per_second,
    )


def is_full(workload: Workload) -> bool:
    """Tell whether days end up with so many events that they are counted by quarter hours."""
    return workload.events_a_day / workload.pairs >= FULL


def _look(workload: Workload, costs: Costs, limits: Limits, every: float) -> float:
    """Seconds of one look at what came in within `every` seconds, in one process."""
    chunk = _of_chunk(workload, costs, limits, every)
    return _chunks(workload, limits, every) * chunk.service_us / 1e6


def _of_chunk(workload: Workload, costs: Costs, limits: Limits, every: float) -> Cost:
    touched = _touched(workload, limits, every)
    counted = costs.of(EVENT_COUNTED).times(_counted(workload, every) * touched / workload.pairs)
    each = costs.of_total()
    if is_full(workload):
        each = each.plus(costs.of(QUARTER_HOUR))
    return counted.plus(each.times(touched))


def _chunks(workload: Workload, limits: Limits, every: float) -> float:
    return max(1.0, workload.messages * every / limits.chunk)


def _touched(workload: Workload, limits: Limits, every: float) -> float:
    """Metrics of tenants that one chunk has something of."""
    came = min(workload.events * every, float(limits.chunk * workload.per_message))
    return distinct(came, workload.pairs)


def _counted(workload: Workload, every: float) -> float:
    """Events of all metrics that are counted if all are touched."""
    if not is_full(workload):
        return workload.events_a_day
    return workload.events * min(QUARTER_SECONDS + every, workload.hours * 3_600)

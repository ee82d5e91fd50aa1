"""What the roll-up takes: a touched day is counted from all of its events, each time.

That is exact and needs no memory of what was counted, and it is what growth meets first: the later
the hour, the more events each look has to count. All days are taken to end at one instant, and
events to fall on all metrics of all tenants at random; several time zones, and metrics that rest,
make it cheaper. One look follows the other: two at once wait for each other's totals.
"""

import math
from dataclasses import dataclass

from worker.sizing.costs import EVENT_COUNTED, Costs, distinct
from worker.sizing.workload import Limits, Workload

TURNS = 60
"""Until a look takes as long as what came in since the one before."""


@dataclass(frozen=True, slots=True)
class RollUp:
    """The roll-up at the end of a day.

    Args:
        every: seconds from one look's beginning to the next's; inf when it falls behind for ever.
        seconds: that one look takes.
        statement: seconds of its longest statement.
        worker_cores, database_cores: processors that are busy with it all the time.
        totals: that change, a second.
        wal: bytes logged a second.
    """

    every: float
    seconds: float
    statement: float
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
        if every > limits.bucket:
            every = math.inf
            break
    shown = min(every, limits.bucket)
    event, total = costs.of(EVENT_COUNTED), costs.of_total()
    counted, touched = _counted(workload, limits, shown), _touched(workload, limits, shown)
    per_second = _chunks(workload, limits, shown) / shown
    if math.isinf(every):
        # It never gets done: what it would need is more than one look after the other has.
        per_second *= shown / _look(workload, costs, limits, shown)
    return RollUp(
        every=every,
        seconds=_look(workload, costs, limits, shown),
        statement=counted * event.database_us / 1e6,
        worker_cores=(counted * event.worker_us + touched * total.worker_us) / 1e6 * per_second,
        database_cores=(counted * event.database_us + touched * total.database_us)
        / 1e6
        * per_second,
        totals=touched * per_second,
        wal=touched * per_second * total.wal_bytes,
    )


def _look(workload: Workload, costs: Costs, limits: Limits, every: float) -> float:
    """Seconds of one look at what came in within `every` seconds, in one process."""
    counted = _counted(workload, limits, every) * costs.of(EVENT_COUNTED).service_us
    told = _touched(workload, limits, every) * costs.of_total().service_us
    return _chunks(workload, limits, every) * (counted + told) / 1e6


def _chunks(workload: Workload, limits: Limits, every: float) -> float:
    return max(1.0, workload.messages * every / limits.chunk)


def _touched(workload: Workload, limits: Limits, every: float) -> float:
    """Metrics of tenants that one chunk has something of."""
    came = min(workload.events * every, float(limits.chunk * workload.per_message))
    return distinct(came, workload.pairs)


def _counted(workload: Workload, limits: Limits, every: float) -> float:
    """Events of the touched days, all of the day."""
    open_for = min(limits.bucket, workload.hours * 3_600)
    return workload.events * open_for * _touched(workload, limits, every) / workload.pairs

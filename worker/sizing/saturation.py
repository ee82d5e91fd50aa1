"""What is full first, and at which rate: each thing by itself, as if all others had no end."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from worker.sizing.costs import Costs
from worker.sizing.plan import Plan, plan
from worker.sizing.rollup import HOPELESS
from worker.sizing.workload import Limits, Workload

HIGHEST: Final = 1e7
LOWEST: Final = 1.0
STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Bound:
    """Where something ends.

    Args:
        what: it is.
        rate: events a second at which it is full; inf if it is not at `HIGHEST`.
        then: what happens beyond, and what helps.
    """

    what: str
    rate: float
    then: str


FOR_EVER: Final = "the roll-up, for ever"
TEN_SECONDS: Final = "the roll-up keeps its ten seconds"

MOST_PRIMARIES: Final = 4_096

Demand = Callable[[Plan, Limits], float]
"""How much of the limit a plan takes: full at 1."""


def _for_ever(made: Plan, _: Limits) -> float:
    return made.roll_up.every / HOPELESS


def _processors(made: Plan, limits: Limits) -> float:
    return made.database.busy / limits.share / limits.database_cores


def _log(made: Plan, limits: Limits) -> float:
    return made.database.wal / limits.wal


def _reads(made: Plan, limits: Limits) -> float:
    return made.database.reads / limits.reads


def _disk(made: Plan, limits: Limits) -> float:
    return made.database.disk / limits.disk


SHARED: Final[tuple[Demand, ...]] = (_for_ever, _processors, _log, _reads, _disk)
"""What more primaries share."""

DEMANDS: Final[tuple[tuple[str, Demand, str], ...]] = (
    (
        TEN_SECONDS,
        lambda made, limits: made.roll_up.seconds / limits.ring,
        "totals come later: a look takes as long as its counting does",
    ),
    (
        FOR_EVER,
        _for_ever,
        "more totals change than one look after the other writes: its log grows; more primaries",
    ),
    (
        "one main process of a worker",
        lambda made, _: made.usage.workers - 1,
        "run one more worker (container) for `usage`; nothing else changes",
    ),
    (
        "Redis, its one thread",
        lambda made, limits: made.broker.busy / limits.share,
        "larger messages; then a broker for each group of producers",
    ),
    (
        "processors of one primary",
        _processors,
        "more primaries",
    ),
    (
        "write-ahead log of one primary",
        _log,
        "rarer checkpoints, `wal_compression`, fewer days kept; then more primaries",
    ),
    (
        "memory for the unique key",
        lambda made, limits: made.database.key / limits.memory,
        "each event reads a page from disk: fewer days kept, more memory; then more primaries",
    ),
    (
        "reads of the unique key from disk",
        _reads,
        "fewer days kept, more memory; then more primaries",
    ),
    (
        "disk of one primary",
        _disk,
        "fewer days kept, an archive; then more primaries",
    ),
    (
        "connections without a pooler",
        lambda made, limits: made.database.connections / limits.connections,
        "PgBouncer (docs/scaling.md)",
    ),
)


def bounds(workload: Workload, costs: Costs, limits: Limits | None = None) -> list[Bound]:
    """Return what is full at which rate, the first one first; the rest of the workload as it is.

    What does not grow with events (webhooks beside those of totals, uses of credit) stays.
    """
    chosen = limits or Limits()

    def full_at(demand: Demand) -> float:
        def is_full(rate: float) -> bool:
            made = plan(dataclasses.replace(workload, events=rate), costs, chosen)
            return demand(made, chosen) >= 1

        if not is_full(HIGHEST):
            return float("inf")
        return _first(is_full)

    found = [Bound(what, full_at(demand), then) for what, demand, then in DEMANDS]
    return sorted(found, key=lambda bound: bound.rate)


def primaries(workload: Workload, costs: Costs, limits: Limits | None = None) -> int:
    """Return over how many primaries tenants must be spread, so that none of `SHARED` is full."""
    chosen = limits or Limits()

    def is_enough(count: int) -> bool:
        made = plan(workload.shared_by(count), costs, chosen)
        return all(demand(made, chosen) <= 1 for demand in SHARED)

    count = 1
    while not is_enough(count) and count < MOST_PRIMARIES:
        count *= 2
    return next((fewer for fewer in range(count // 2 + 1, count) if is_enough(fewer)), count)


def _first(is_full: Callable[[float], bool]) -> float:
    """The rate from which on it is so, by halving."""
    low, high = LOWEST, HIGHEST
    if is_full(low):
        return low
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if is_full(middle) else (middle, high)
    return high

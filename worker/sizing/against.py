"""The model beside rates that were measured otherwise: with all of a machine, by the clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from worker.sizing import costs as paths
from worker.sizing.costs import Cost, Costs

CORES: Final = 2
"""Of the machine: producer, broker, workers and PostgreSQL share them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A rate that `make bench` measured on the quiet machine, 21 November 2026, load 1 to 2.

    Args:
        what: was done.
        rate: a second.
        reckoned: returns what the costs say that it should have been.
    """

    what: str
    rate: float
    reckoned: Callable[[Costs], float]


def _alone(path: str) -> Callable[[Costs], float]:
    """One caller that does one thing after the other: his processor or PostgreSQL's is busy."""
    return lambda known: 1e6 / known.of(path).service_us


def _together(path: str, *, processes: int) -> Callable[[Costs], float]:
    """Through Celery: as many as the machine's processors do, or the pool, whichever is fewer."""

    def rate(known: Costs) -> float:
        cost = known.of(path)
        return min(CORES * 1e6 / _everyone(cost), processes * 1e6 / cost.service_us)

    return rate


def _sending(known: Costs) -> float:
    """Its threads share one interpreter: as many as fit in one processor's time."""
    return 1e6 / known.of(paths.DELIVERY).worker_us


def _everyone(cost: Cost) -> float:
    return cost.producer_us + cost.broker_us + cost.dispatcher_us + cost.service_us


MEASURED: Final = (
    Measured(
        "ingest, 1,000 a message, 2 processes",
        23_440,
        _together(paths.path_of(1_000), processes=2),
    ),
    Measured(
        "ingest, 100 a message, 2 processes", 6_936, _together(paths.path_of(100), processes=2)
    ),
    Measured("ingest, 1 a message, 2 processes", 105, _together(paths.path_of(1), processes=2)),
    Measured("ingest in process, 1,000 a call", 21_656, _alone(paths.IN_PROCESS)),
    Measured("import of a CSV file", 26_055, _alone(paths.IMPORT)),
    Measured("events counted again, 5 M", 1_710_000, _alone(paths.EVENT_COUNTED)),
    Measured("a use of credit, 2 processes", 106, _together(paths.USE, processes=2)),
    Measured("drafts in process", 1_153, _alone(paths.DRAFT)),
    Measured("drafts, 2 processes", 1_816, _together(paths.DRAFT, processes=2)),
    Measured("invoices finalized in process", 904, _alone(paths.FINALIZED)),
    Measured("deliveries, one process", 650, _sending),
)

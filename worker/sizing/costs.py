"""What one unit of each hot path takes, as `python -m benchmarks costs` measured it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parent / "costs.json"
"""A copy of benchmarks/results/costs.json: take it anew after a change that costs or saves."""

SIZES: Final = (1, 10, 100, 1_000, 5_000)
"""Events of the messages that were measured; what lies between is interpolated."""

GROWN: Final = "ingest, in process, 1 M rows, after a checkpoint"
IN_PROCESS: Final = "ingest, in process, 1,000 a call"
IMPORT: Final = "import of a CSV file"
EVENT_COUNTED: Final = "roll-up, an event counted"
TOTAL_TOLD: Final = "roll-up, a total of 3 events, told"
EVENTS_OF_THAT_TOTAL: Final = 3
QUARTER_HOUR: Final = "roll-up, a quarter hour of a full day"
"""With its events, two dozen, and the sum of the day's."""
USE: Final = "a use of credit"
DRAFT: Final = "a draft of five lines"
FINALIZED: Final = "an invoice finalized"
DELIVERY: Final = "a delivery"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one unit: microseconds of processor time by who takes it, and bytes.

    Args:
        producer_us, broker_us: of who sends, and of Redis.
        dispatcher_us, worker_us: of a worker's main process, and of its pool.
        database_us: of PostgreSQL.
        wal_bytes, heap_bytes, index_bytes: what is logged, and what stays on its disk.
        network_bytes: what the broker reads and writes.
        held_bytes: of Redis' memory while it waits there.
    """

    producer_us: float = 0.0
    broker_us: float = 0.0
    dispatcher_us: float = 0.0
    worker_us: float = 0.0
    database_us: float = 0.0
    wal_bytes: float = 0.0
    heap_bytes: float = 0.0
    index_bytes: float = 0.0
    network_bytes: float = 0.0
    held_bytes: float = 0.0

    def times(self, factor: float) -> "Cost":
        """Return what so many units take."""
        return Cost(**{name: getattr(self, name) * factor for name in _NAMES})

    def plus(self, other: "Cost") -> "Cost":
        """Return what both take."""
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in _NAMES})

    @property
    def service_us(self) -> float:
        """What a process of the pool is busy with, itself or waiting for PostgreSQL's processor."""
        return self.worker_us + self.database_us


_NAMES: Final = tuple(field.name for field in dataclasses.fields(Cost))


@dataclass(frozen=True, slots=True)
class Costs:
    """All that was measured in one run, and where and when.

    Args:
        key_bytes: of the unique key's index, of one event, filled at random.
        page_bytes: logged for a page whose first change after a checkpoint it is.
    """

    at: str
    machine: str
    load: float
    paths: Mapping[str, Cost]
    key_bytes: float
    page_bytes: float

    def of(self, path: str) -> Cost:
        """Return the cost of one unit of a path."""
        return self.paths[path]

    def of_event(self, *, per_message: int) -> Cost:
        """Return the cost of one event that is sent in a message of so many, from 1 to 10,000.

        What a message takes is taken to be linear between two sizes that were measured, and above
        the largest an event costs what it does there.
        """
        if per_message >= SIZES[-1]:
            return self.of(path_of(SIZES[-1]))
        larger = next(size for size in SIZES if size > per_message)
        smaller = SIZES[SIZES.index(larger) - 1]
        share = (per_message - smaller) / (larger - smaller)
        low = self.of(path_of(smaller)).times(smaller * (1 - share) / per_message)
        return low.plus(self.of(path_of(larger)).times(larger * share / per_message))

    def of_total(self) -> Cost:
        """Return the cost of a total that is written and told, without counting its events."""
        whole = self.of(TOTAL_TOLD)
        events = self.of(EVENT_COUNTED).times(-EVENTS_OF_THAT_TOTAL)
        return Cost(**{name: max(0.0, getattr(whole.plus(events), name)) for name in _NAMES})


def path_of(size: int) -> str:
    """Return the name of the path of messages of a size that was measured."""
    return f"ingest, {size:,} a message"


def load(file: Path = FILE) -> Costs:
    """Read a file of measured costs.

    Raises:
        OSError: it can not be read.
        ValueError, KeyError: it is not such a file.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    figures: dict[str, dict[str, Any]] = content["paths"]
    paths = {path: _cost(measured) for path, measured in figures.items()}
    return Costs(
        at=content["at"],
        machine=content["machine"],
        load=content["load_before"],
        paths=paths,
        key_bytes=figures[path_of(1_000)]["key_bytes"],
        page_bytes=_page_bytes(figures),
    )


def _cost(measured: Mapping[str, Any]) -> Cost:
    return Cost(**{name: measured.get(name, 0.0) for name in _NAMES})


def _page_bytes(figures: Mapping[str, Mapping[str, Any]]) -> float:
    """What a page is logged with, from ingest on many rows beside ingest on few."""
    grown, base = figures[GROWN], figures[IN_PROCESS]
    more = (grown["wal_bytes"] - base["wal_bytes"]) * grown["units"]
    return float(more / distinct(grown["units"], grown["key_pages"]))


def distinct(draws: float, pages: float) -> float:
    """Return how many of so many pages are met by draws at random, on average."""
    if pages <= 0:
        return 0.0
    return pages * -math.expm1(-draws / pages)

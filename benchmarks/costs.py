"""What each hot path takes of processors, log, disk and broker: `python -m benchmarks costs`.

Processor time hardly depends on what else the machine does, so these figures can be had on a busy
one, and added up: `billing sizing` does (docs/scaling.md). They go to the screen and to
`benchmarks/results/costs.json`; what the program reckons with is a copy of such a file,
`worker/sizing/costs.json`.
"""

import contextlib
import datetime as dt
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from benchmarks import rounds, servers
from benchmarks.processors import Meter, Taken
from benchmarks.report import Measure
from benchmarks.servers import Stage
from tasks.queues import Queue

JOB = "costs"

RESULT = Path(__file__).parent / "results" / "costs.json"

WIDTH = 150

PAUSE_SECONDS = 0.05
"""Between two looks: looking takes processor time, too."""

PARTS = ("producer", "broker", "dispatcher", "worker", "database")
"""Who takes processor time, as named in what is written."""


class Scaled(Protocol):
    """Returns a size at the scale of the run, `least` or more."""

    def __call__(self, count: int, *, least: int = 1) -> int:
        """Return the size."""


class Book:
    """What was measured, path by path."""

    def __init__(self, stage: Stage) -> None:
        self._meter = Meter(stage)
        self.costs: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Count what is started in the block as a worker."""
        with self._meter.beside():
            yield

    def enter(
        self,
        path: str,
        unit: str,
        units: int,
        work: Callable[[], object],
        *,
        is_worker: bool = False,
    ) -> None:
        """Do `work`, which is so many units of a path, and write down what one of them took.

        Entered again, the path took both.

        Args:
            is_worker: this process does what a worker would; else it is who sends.
        """
        before, begun = self._meter.read(), time.perf_counter()
        work()
        seconds, taken = time.perf_counter() - begun, self._meter.read().less(before)
        self.costs.setdefault(path, {"unit": unit, "units": units})
        self.add(
            path, **_per_unit(taken, units, is_worker=is_worker), us_by_clock=seconds * 1e6 / units
        )

    def forget(self, path: str) -> None:
        """Take out what was entered for a path, if anything was."""
        self.costs.pop(path, None)

    def add(self, path: str, **figures: float) -> None:
        """Add figures to those of a path."""
        entry = self.costs[path]
        for name, figure in figures.items():
            entry[name] = round(entry.get(name, 0) + figure, 3)


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Measure all, show and write it; a measure's floor is what PostgreSQL takes of it."""
    from benchmarks import cost_chores, cost_paths  # noqa: PLC0415 (they write in the book)

    book = Book(stage)
    load = os.getloadavg()[0]
    scaled: Scaled = partial(rounds.scaled, scale=scale)
    for paths in (cost_paths, cost_chores):
        paths.run(stage, book, scaled)
    _show(book.costs)
    _write(book.costs, scale=scale, load=load)
    return [_measure(path, cost) for path, cost in book.costs.items()]


def is_done(stage: Stage, queue: Queue, table: str, count: int) -> bool:
    """Tell whether a queue's messages have ended, and left so many rows in a table."""
    # A message on its way from one list of the broker to the other is in neither for a moment.
    if stage.redis.llen(queue) or stage.redis.hlen("unacked"):
        return False
    return bool(stage.value(f"SELECT count(*) FROM {table}") == count)  # noqa: S608


def wait_until(is_done: Callable[[], bool]) -> None:
    """Return when it is so; look seldom.

    Raises:
        NeverDone: it was not within `servers.LONGEST_WAIT`.
    """
    deadline = time.monotonic() + servers.LONGEST_WAIT
    while not is_done():
        if time.monotonic() > deadline:
            raise servers.NeverDone(f"the workers were not done after {servers.LONGEST_WAIT:.0f} s")
        time.sleep(PAUSE_SECONDS)


def _per_unit(taken: Taken, units: int, *, is_worker: bool) -> dict[str, float]:
    pool = taken.pool + (taken.here if is_worker else 0.0)
    seconds = {
        "producer": 0.0 if is_worker else taken.here,
        "broker": taken.broker,
        "dispatcher": taken.dispatcher,
        "worker": pool,
        "database": taken.database,
    }
    written = {
        "wal_bytes": taken.wal,
        "heap_bytes": taken.heap,
        "index_bytes": taken.index,
        "network_bytes": taken.network,
    }
    in_us = {f"{name}_us": spent * 1e6 / units for name, spent in seconds.items()}
    return in_us | {name: size / units for name, size in written.items()}


def _measure(path: str, cost: dict[str, Any]) -> Measure:
    everyone = sum(cost[f"{part}_us"] for part in PARTS)
    return Measure(
        name=f"{JOB}: {path}",
        rate=everyone,
        unit=f"µs of processors, {cost['unit']}",
        floor="PostgreSQL's part of it",
        floor_rate=cost["database_us"],
        ratio=everyone / cost["database_us"],
        aim=None,
        rounds=1,
    )


def _show(costs: dict[str, dict[str, Any]]) -> None:
    table = Table(title="Processor time of one unit in µs, by who takes it; bytes of one unit")
    table.add_column("path")
    headings = (*PARTS, "WAL", "heap", "index", "network", "held in Redis")
    for heading in headings:
        table.add_column(heading, justify="right")
    names = [f"{part}_us" for part in PARTS]
    names += ["wal_bytes", "heap_bytes", "index_bytes", "network_bytes", "held_bytes"]
    for path, cost in costs.items():
        table.add_row(f"{path} ({cost['unit']})", *(_figure(cost.get(name, 0)) for name in names))
    Console(width=WIDTH).print(table)


def _figure(value: float) -> str:
    if not value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _write(costs: dict[str, dict[str, Any]], *, scale: float, load: float) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {_processor()}",
        "load_before": round(load, 1),
        "scale": scale,
        "python": platform.python_version(),
        "paths": costs,
    }
    RESULT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()

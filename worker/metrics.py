"""Metrics for Prometheus: counted in many processes, read in one place a host.

Each process writes what it counts to files of its own in one folder (`BILLING_METRICS_FOLDER`);
`billing metrics` adds them up and serves them. A process that ends leaves its counts behind, so
that no figure ever falls.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tasks import metrics
from worker.settings import InvalidSettings

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where the client library keeps its files."""

SECONDS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 140.0)
"""Upper bounds of the histograms' buckets; the last is how long a task may run."""

_counts_here: Path | None = None


def count_in(folder: Path | None) -> None:
    """Write what this process, and those it forks, will count to files in a folder; None: nowhere.

    Raises:
        InvalidSettings: the folder is not there and can not be made, or can not be written to.
    """
    global _counts_here  # noqa: PLW0603 (the process has one)
    if folder is None or folder == _counts_here:
        return
    _require(folder)
    os.environ[FOLDER_VARIABLE] = str(folder)
    # The library looks for the folder when it is imported, and there was none yet. Its files are
    # named after processes: containers that share a folder all have a process 7.
    values.ValueClass = values.MultiProcessValue(_process)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    known: dict[str, Counter | Histogram] = {
        one.name: (
            Counter(one.name, one.says, one.labels, registry=registry)
            if isinstance(one, metrics.Counter)
            else Histogram(one.name, one.says, one.labels, registry=registry, buckets=_buckets(one))
        )
        for one in metrics.ALL
    }
    for one in metrics.ALL:
        for value in one.values if isinstance(one, metrics.Counter) else ():
            known[one.name].labels(value)

    def listen(metric: metrics.Metric, amount: float, labels: Mapping[str, str]) -> None:
        found = known[metric.name]
        shown = found.labels(**labels) if labels else found
        if isinstance(shown, Counter):
            shown.inc(amount)
        else:
            shown.observe(amount)

    metrics.use(listen)
    _counts_here = folder


def collected(folder: Path | None, *more: Collector) -> CollectorRegistry:
    """Return what all processes that count in a folder have counted, read when it is asked for.

    Args:
        folder: None for none.
        more: what else is told.


    Raises:
        InvalidSettings: as of `count_in`.
    """
    registry = CollectorRegistry()
    if folder is not None:
        _require(folder)
        MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    for collector in more:
        registry.register(collector)
    return registry


def _process() -> str:
    return f"{platform.node().replace('_', '-')}-{os.getpid()}"


def _buckets(one: metrics.Duration) -> tuple[float, ...]:
    return tuple(bound * 1000 for bound in SECONDS) if one.in_ms else SECONDS


def _require(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(
            f"BILLING_METRICS_FOLDER is {folder}, which can not be made: {error.strerror}"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidSettings(
            f"BILLING_METRICS_FOLDER is {folder}, which this process can not write to"
        )

"""`python -m benchmarks [NAME…] [--scale S]`: measure, print one table, write one file."""

import argparse
import datetime as dt
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import (
    aggregation,
    consume,
    costs,
    credit,
    deliveries,
    freshness,
    growth,
    ingest,
    invoices,
    isolation,
    quota,
    report,
    rounds,
    servers,
    stream,
)
from benchmarks.report import Measure
from benchmarks.servers import Stage

BENCHMARKS: dict[str, Callable[[Stage, float], Sequence[Measure]]] = {
    "ingest": ingest.measure,
    "stream": stream.measure,
    "deliveries": deliveries.measure,
    "isolation": isolation.measure,
    "aggregation": aggregation.measure,
    "growth": growth.measure,
    "freshness": freshness.measure,
    "invoices": invoices.measure,
    "consume": consume.measure,
    "credit": credit.measure,
    "quota": quota.measure,
    "costs": costs.measure,
}

LATEST = Path(__file__).parent / "results" / "latest.json"

WIDTH = 130
"""Characters of a line where there is no terminal to ask."""


def main() -> None:
    """Run what the command line asks for."""
    asked = _arguments()
    rounds.use(asked.rounds)
    load = os.getloadavg()[0]
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    with servers.running() as stage:
        measures = [
            measure
            for name in asked.names or BENCHMARKS
            for measure in _run(name, stage, asked.scale, console)
        ]
    report.show(console, measures)
    report.write(asked.json, measures, scale=asked.scale, load=load, now=dt.datetime.now(dt.UTC))


def _run(name: str, stage: Stage, scale: float, console: Console) -> Sequence[Measure]:
    begun = time.monotonic()
    stage.empty()
    measures = BENCHMARKS[name](stage, scale)
    console.print(f"{name}: {time.monotonic() - begun:.0f} s", highlight=False)
    return measures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the sizes (1.0)")
    parser.add_argument("--rounds", type=int, default=rounds.ROUNDS, help="turns of each way (3)")
    parser.add_argument("--json", type=Path, default=LATEST, help="where the figures are written")
    asked = parser.parse_args()
    if unknown := set(asked.names) - BENCHMARKS.keys():
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}")
    if asked.scale <= 0 or asked.rounds < 1:
        parser.error("--scale must be above 0, and --rounds 1 or more")
    return asked


if __name__ == "__main__":
    main()

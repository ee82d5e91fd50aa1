"""What was measured: as a table for people, as JSON for whoever compares runs."""

import dataclasses
import datetime as dt
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Measure:
    """One way of doing a job beside its floor, in the same rounds.

    Args:
        name: the benchmark and the way, such as "ingest: 1,000 a message".
        rate: how much of it a second, the median of the rounds; or seconds, if that is the unit.
        unit: what is counted.
        floor: the way it is compared with.
        floor_rate: the floor's median.
        ratio: the median over the rounds of rate by floor in one round: the result.
        aim: what the ratio should be at least; None for a comparison without one.
        rounds: how many.
    """

    name: str
    rate: float
    unit: str
    floor: str
    floor_rate: float
    ratio: float
    aim: float | None
    rounds: int


def show(console: Console, measures: Sequence[Measure]) -> None:
    """Print the table."""
    table = Table(title="Each way beside its floor; the ratio is the result")
    for heading in ("job", "a second", "", "floor", "a second", "ratio", "aim"):
        numeric = heading in {"a second", "ratio", "aim"}
        table.add_column(heading, justify="right" if numeric else "left")
    before = ""
    for measure in measures:
        is_same = measure.name == before
        before = measure.name
        table.add_row(
            "" if is_same else measure.name,
            "" if is_same else _figure(measure.rate),
            "" if is_same else measure.unit,
            measure.floor,
            _figure(measure.floor_rate),
            f"{measure.ratio:.3g}",
            _aim(measure),
        )
    console.print(table)


def write(
    path: Path, measures: Sequence[Measure], *, scale: float, load: float, now: dt.datetime
) -> None:
    """Write everything as one JSON object, over what is there.

    Args:
        load: the machine's load average before the run: was it quiet?
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "at": now.isoformat(timespec="seconds"),
        "scale": scale,
        "cpus": os.cpu_count(),
        "load_before": round(load, 1),
        "python": platform.python_version(),
        "measures": [dataclasses.asdict(measure) for measure in measures],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _aim(measure: Measure) -> str:
    if measure.aim is None:
        return ""
    colour = "green" if measure.ratio >= measure.aim else "red"
    return f"[{colour}]≥ {measure.aim:.2f}[/]"

"""`billing sizing`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from worker.cli import printing
from worker.sizing import costs, saturation, tables
from worker.sizing.plan import plan
from worker.sizing.workload import Limits, Workload

USUAL: Final = Workload(events=1_000)
BOUNDS: Final = Limits()

Rate = Annotated[
    float, typer.Option("--events-per-second", "-r", help="At the busiest.", min=0.1, max=1e7)
]


def sizing(
    events: Rate,
    *,
    message: Annotated[
        int, typer.Option(help="Events of a message.", min=1, max=10_000)
    ] = USUAL.per_message,
    hours: Annotated[
        float, typer.Option(help="Hours of a day at that rate.", min=0.1, max=24)
    ] = USUAL.hours,
    tenants: Annotated[
        int, typer.Option(help="Tenants that use something on a day.", min=1, max=100_000_000)
    ] = USUAL.tenants,
    metrics: Annotated[
        int, typer.Option(help="Metrics that each of them uses.", min=1, max=10_000)
    ] = USUAL.metrics,
    subscribed: Annotated[
        float, typer.Option(help="Share of totals that an endpoint hears of.", min=0, max=1)
    ] = USUAL.subscribed,
    deliveries: Annotated[
        float, typer.Option(help="Webhooks a second beside those.", min=0, max=1e6)
    ] = USUAL.deliveries,
    answer_ms: Annotated[
        float, typer.Option(help="Until an endpoint answers.", min=0, max=60_000)
    ] = USUAL.answer * 1_000,
    uses: Annotated[
        float, typer.Option(help="Uses of credit a second.", min=0, max=1e6)
    ] = USUAL.uses,
    kept: Annotated[
        float, typer.Option(help="Days that events stay in the database.", min=1, max=36_500)
    ] = USUAL.kept,
    remembered: Annotated[
        float, typer.Option(help="Days that keys are known after that.", min=0, max=36_500)
    ] = USUAL.remembered,
    outage: Annotated[
        float, typer.Option(help="Minutes of messages that Redis must hold.", min=0, max=10_000)
    ] = USUAL.outage,
    busy: Annotated[
        float, typer.Option(help="Share of a processor's time to use.", min=0.05, max=0.95)
    ] = BOUNDS.share,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--costs",
            help="What `python -m benchmarks costs` measured on your machine.",
            show_default="what comes with the program",
        ),
    ] = None,
    as_json: printing.AsJson = False,
) -> None:
    """Say what an installation needs for a load: processes, processors, log, disk, memory.

    It adds up measured costs, reads no data and connects to nothing; what is left out and how far
    to believe it stands in docs/scaling.md.
    """
    workload = Workload(
        events=events,
        per_message=message,
        hours=hours,
        tenants=tenants,
        metrics=metrics,
        subscribed=subscribed,
        deliveries=deliveries,
        answer=answer_ms / 1_000,
        uses=uses,
        kept=kept,
        remembered=remembered,
        outage=outage,
    )
    limits = Limits(share=busy)
    known = _load(measured or costs.FILE)
    if as_json:
        printing.print_json(_as_json(workload, known, limits))
    else:
        _print(workload, known, limits)


def _load(file: Path) -> costs.Costs:
    try:
        return costs.load(file)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--costs") from None
    except (ValueError, KeyError, TypeError) as error:
        raise typer.BadParameter(
            f"{file} holds no costs that `python -m benchmarks costs` wrote: {error!r}",
            param_hint="--costs",
        ) from None


def _as_json(workload: Workload, known: costs.Costs, limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = asdict(plan(workload, known, limits))
    found["limits"] = asdict(limits)
    found["measured"] = {"at": known.at, "machine": known.machine}
    found["primaries"] = saturation.primaries(workload, known, limits)
    found["full_at"] = {
        bound.what: bound.rate for bound in saturation.bounds(workload, known, limits)
    }
    return _finite(found)


def _finite(found: dict[str, Any]) -> dict[str, Any]:
    """What has no end has no number in JSON: null."""
    return dict(json.loads(json.dumps(found), parse_constant=lambda _: None))


def _print(workload: Workload, known: costs.Costs, limits: Limits) -> None:
    console = Console(markup=False, highlight=False)
    needed = Table("needs", "", title=f"{tables.number(workload.events)} events a second")
    for name, figure in tables.rows(plan(workload, known, limits), known, limits):
        needed.add_row(name.replace("`", ""), figure)
    console.print(needed)
    first = Table("full", "events/s", "beyond", title="What is full at which rate")
    for bound in saturation.bounds(workload, known, limits):
        first.add_row(bound.what, tables.number(bound.rate), bound.then.replace("`", ""))
    console.print(first)
    console.print(f"Reckoned from what was measured at {known.at} on {known.machine}.")

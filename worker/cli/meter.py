"""Meters: how metrics are counted, and which of them nobody charges for."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from models.rules.meter import Aggregation, RoundingMode
from models.rules.refusal import Refusal
from tasks.contract import InvalidMessage
from tasks.meters import LARGEST_PAGE, ListedMeter, list_meters, set_meter
from worker.cli import meter_view, printing

app = typer.Typer(help="How metrics are counted.", no_args_is_help=True)

Metric = Annotated[
    str, typer.Argument(metavar="METRIC", help="What events count.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


class UnknownMetric(Refusal):
    """A metric has neither a meter nor usage."""

    code = "metric.unknown"


@app.command("set")
def set_(
    metric: Metric,
    *,
    aggregation: Annotated[
        Aggregation, typer.Option(help="What a period's events come to.")
    ] = Aggregation.sum,
    unit: Annotated[str | None, typer.Option(help="What one is called, for people.")] = None,
    value_field: Annotated[
        str | None,
        typer.Option(
            help="Key of an event's metadata that holds its value.",
            show_default="its amount",
            metavar="KEY",
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Events count if their metadata has this text; one KEY again allows another text, "
            "another KEY must fit too.",
            metavar="KEY=TEXT",
        ),
    ] = None,
    rounding: Annotated[
        str | None,
        typer.Option(
            "--round",
            help=f"Round a period's quantity; MODE is one of {', '.join(RoundingMode)}.",
            metavar="DECIMALS:MODE",
        ),
    ] = None,
    allow_corrections: Annotated[
        bool, typer.Option("--allow-corrections", help="Events may have a negative amount.")
    ] = False,
    inactive: Annotated[
        bool, typer.Option("--inactive", help="Put it away: it counts on, and is not listed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a metric's meter be what is given; what is left out has its default.

    If something else is counted now, days that no finalized invoice has charged for are counted
    anew by the next roll-ups; days that are billed keep their totals.
    """
    given = {
        "metric": metric,
        "aggregation": aggregation.value,
        "unit": unit,
        "value_field": value_field,
        "filters": _filters(filters or []),
        "rounding": _rounding(rounding),
        "allow_corrections": allow_corrections,
        "active": not inactive,
    }
    printing.prepare()
    try:
        before = _find(metric)
        answer = set_meter(**given)  # type: ignore[arg-type]  # as a message, which it checks
    except InvalidMessage as invalid:
        raise InvalidMessage(meter_view.faults(invalid.errors), errors=invalid.errors) from None
    if as_json:
        _print_json(answer)
    else:
        printing.show(meter_view.changes(before, answer))


@app.command("list")
def print_list(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also meters that were put away.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List metrics with a meter or usage, and those that are used and that nobody charges for."""
    printing.prepare()
    found = list(_all(show="all" if everything else "active"))
    unpriced = [one["metric"] for one in found if one["used"] and not one["priced"]]
    if as_json:
        _print_json({"meters": found, "unpriced": unpriced})
    else:
        printing.show(meter_view.table(found) if found else "no metric has a meter or usage")
        if unpriced:
            printing.show(f"used, and no price charges for it: {', '.join(unpriced)}")


@app.command()
def show(metric: Metric, *, as_json: AsJson = False) -> None:
    """Show how one metric is counted."""
    printing.prepare()
    found = _find(metric)
    if found is None:
        raise UnknownMetric(
            f"metric {metric!r} has neither a meter nor usage; `billing meter list --all` names "
            "those that have",
            field="metric",
        )
    if as_json:
        _print_json(found)
    else:
        printing.show(meter_view.details(found))


def _find(metric: str) -> ListedMeter | None:
    return next((one for one in _all(show="all") if one["metric"] == metric), None)


def _all(*, show: Any) -> Iterator[ListedMeter]:
    """Every metric by name, page after page."""
    after: str | None = ""
    while after is not None:
        page = list_meters(after=after, limit=LARGEST_PAGE, show=show)
        yield from page["meters"]
        after = page["next_after"]


def _filters(given: Sequence[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for one in given:
        key, equals, wanted = one.partition("=")
        if not key or not equals:
            raise typer.BadParameter(
                f"{one!r} must be a key of the metadata and a text, such as model=atlas",
                param_hint="--filter",
            )
        filters.setdefault(key, []).append(wanted)
    return filters


def _rounding(given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    decimals, _, mode = given.partition(":")
    if not decimals.isdecimal() or mode not in set(RoundingMode):
        raise typer.BadParameter(
            f"{given!r} must be a number of decimals and one of {', '.join(RoundingMode)}, such as "
            "0:up",
            param_hint="--round",
        )
    return {"decimals": int(decimals), "mode": mode}


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))

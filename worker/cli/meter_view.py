"""How meters are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tasks.meters import ListedMeter, MeterAnswer


def table(found: Sequence[ListedMeter]) -> Table:
    """Return a table of metrics, at least one."""
    table = Table("metric", *_terms(found[0]), "used", "priced", "version")
    for one in found:
        used = [_yes(one["used"]), _yes(one["priced"]), _version(one)]
        table.add_row(one["metric"], *_terms(one).values(), *used)
    return table


def details(one: ListedMeter) -> Table:
    """Return what is known of one metric, a line each."""
    grid = _grid(one)
    for label, said in _terms(one).items():
        grid.add_row(label, said)
    grid.add_row("used", _yes(one["used"]))
    grid.add_row("priced", _yes(one["priced"]))
    return grid


def changes(before: MeterAnswer | None, after: MeterAnswer) -> Table:
    """Return what a meter says now, and what it said where that was something else."""
    grid = _grid(after)
    were = _terms(before or after)
    for label, now in _terms(after).items():
        was = were[label]
        grid.add_row(label, now, "" if was == now else Text(f"was {was}", style="yellow"))
    return grid


def faults(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return in one line which fields are wrong, with what, and why."""
    return "; ".join(
        f"{error['field']}{f' {value}' if (value := error.get('value')) else ''}: {error['reason']}"
        for error in errors
    )


def _grid(one: MeterAnswer) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row("metric", one["metric"], _version(one))
    return grid


def _terms(one: MeterAnswer) -> dict[str, str]:
    """What a meter says, as people read it."""
    key, rounding = one["value_field"], one["rounding"]
    filters = (f"{field} = {' | '.join(texts)}" for field, texts in one["filters"].items())
    amount = "number of events" if one["aggregation"] == "count" else "amount"
    return {
        "aggregation": one["aggregation"],
        "value": amount if key is None else f"metadata.{key}",
        "counts": ", ".join(filters) or "every event",
        "unit": one["unit"] or "",
        "rounding": f"{rounding['mode']}, {rounding['decimals']} decimals" if rounding else "none",
        "corrections": _yes(one["allow_corrections"]),
        "active": _yes(one["active"]),
    }


def _yes(chosen: bool) -> str:
    return "yes" if chosen else "no"


def _version(one: MeterAnswer) -> str:
    return f"version {one['version']}" if one["version"] else "no meter"

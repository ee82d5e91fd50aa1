"""Plans and prices: what is offered, and what it costs."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table

from tasks.plan_list import LARGEST_PAGE, ListedPrice, get_plan, list_plans, list_prices
from tasks.plans import PlanAnswer
from worker.cli import price_view, printing

app = typer.Typer(help="What is offered, and what it costs.", no_args_is_help=True)
prices = typer.Typer(help="What is charged, by which model.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@prices.callback()
def price() -> None:
    """What is charged, by which model."""


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List plans."""
    printing.prepare()
    found = _plans()
    if as_json:
        _print_json(found)
    else:
        printing.show(_table(found) if found else "no plan; billing.set_plan makes one")


@app.command()
def show(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Its key.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show a plan with the prices it has now, tier by tier."""
    printing.prepare()
    found = get_plan(plan_key=plan)
    if as_json:
        _print_json(found)
        return
    printing.show(
        f"{found['plan_key']}, {found['name']}: {_rhythm(found)}, version {found['version']}"
    )
    printing.show(price_view.table(found["prices"]) if found["prices"] else "no prices")


@prices.command("list")
def list_of_prices(
    *,
    plan: Annotated[str | None, typer.Option(help="Of this plan only.", metavar="PLAN")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also versions that are over, and those to come.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what is charged, tier by tier, by plan and price."""
    printing.prepare()
    found = sorted(_prices(plan, "all" if everything else "current"), key=_key)
    if as_json:
        _print_json(found)
    else:
        printing.show(price_view.versions(found) if found else "no prices")


def _plans() -> list[PlanAnswer]:
    """Every plan by key, page after page."""
    found: list[PlanAnswer] = []
    after: str | None = ""
    while after is not None:
        page = list_plans(after=after, limit=LARGEST_PAGE)
        found += page["plans"]
        after = page["next_after"]
    return found


def _prices(plan_key: str | None, which: Any) -> Iterator[ListedPrice]:
    """Versions of prices in the order in which they were set, page after page."""
    after, is_last = None, False
    while not is_last:
        page = list_prices(plan_key=plan_key, show=which, after=after, limit=LARGEST_PAGE)
        yield from page["prices"]
        after = page["next_after"]
        is_last = after is None


def _key(one: ListedPrice) -> tuple[str, str, str, str]:
    effective_at = str(one["effective_at"] or "")
    return one["plan_key"], one["price_key"], one["currency"], effective_at


def _table(found: list[PlanAnswer]) -> Table:
    table = Table("plan", "name", "billed", "prices", "currencies", "version")
    for one in found:
        currencies = sorted({price["currency"] for price in one["prices"]})
        keys = sorted({price["price_key"] for price in one["prices"]})
        table.add_row(
            one["plan_key"],
            one["name"],
            _rhythm(one),
            ", ".join(keys),
            ", ".join(currencies),
            str(one["version"]),
        )
    return table


def _rhythm(one: PlanAnswer) -> str:
    to_the_second = ", prorated by the second" if one["proration"] == "second" else ""
    return f"every {one['interval']}, by {one['anchor']}{to_the_second}"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))

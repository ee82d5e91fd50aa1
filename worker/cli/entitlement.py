"""`billing entitlement`: what plans and tenants may use, and what they have used of it."""

import datetime as dt
import json
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from models.rules.quota import Window
from tasks.entitlement_list import LARGEST_PAGE, get_entitlements, list_entitlements
from tasks.entitlements import EntitlementAnswer, end_entitlement, set_entitlement
from worker.cli import entitlement_view as view
from worker.cli import kinds, printing
from worker.cli.gauge import ASCII, BLOCKS

app = typer.Typer(help="What may be used, and what was used of it.", no_args_is_help=True)

Metric = Annotated[str, typer.Argument(help="What may be used.", metavar="METRIC")]
Plan = Annotated[str | None, typer.Option(help="Of everyone on this plan.")]
Tenant = Annotated[str | None, typer.Option(help="Of this tenant, instead of its plans'.")]
Length = Annotated[Window, typer.Option("--window", help="What the limit is for.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@app.command("list")
def print_list(
    *,
    plan: Annotated[str | None, typer.Option(help="Only this plan's.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's own.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only those to this metric.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    as_json: AsJson = False,
) -> None:
    """List entitlements as they were set."""
    printing.prepare()
    found = _pages(plan, tenant, metric, "all" if everything else "current")
    if as_json:
        _print_json(found)
    else:
        printing.show(view.listed(found) if found else "no entitlements")


@app.command("show")
def show(
    tenant: Annotated[str, typer.Argument(help="Whose.", metavar="TENANT")],
    as_json: AsJson = False,
) -> None:
    """Show what a tenant may use now, and a bar of what it has used of each limit."""
    printing.prepare()
    found = get_entitlements(tenant_id=tenant)
    if as_json:
        _print_json(found)
        return
    printing.show(f"{tenant}, {found['timezone']}")
    if found["entitlements"]:
        glyphs = ASCII if printing.console().options.ascii_only else BLOCKS
        printing.show(view.standings(found, now=dt.datetime.now(dt.UTC), glyphs=glyphs))
    else:
        printing.show("no entitlements: whatever asks for one is refused")


@app.command("set")
def set_(
    metric: Metric,
    *,
    plan: Plan = None,
    tenant: Tenant = None,
    limit: Annotated[
        Decimal | None,
        typer.Option(
            help="How much in a window, 0 or more.", metavar="AMOUNT", parser=kinds.used_amount
        ),
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Without limit.")] = False,
    window: Length = Window.month,
    soft: Annotated[bool, typer.Option("--soft", help="Allow more, and flag it.")] = False,
    per_seat: Annotated[
        bool, typer.Option("--per-seat", help="The limit is for each seat of a subscription.")
    ] = False,
    since: Annotated[
        dt.datetime | None,
        typer.Option(
            "--from",
            help="From when.",
            show_default="now",
            metavar="INSTANT",
            parser=kinds.instant,
        ),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option(
            help="Until when.",
            show_default="further notice",
            metavar="INSTANT",
            parser=kinds.instant,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how much of a metric may be used: on a plan, or by one tenant.

    What is used already counts. Earlier and later versions stay as they are.
    """
    if (limit is None) != unlimited:
        raise typer.BadParameter("give either --limit or --unlimited", param_hint="--limit")
    printing.prepare()
    made = set_entitlement(
        plan_key=plan,
        tenant_id=tenant,
        metric=metric,
        limit=limit,
        window=window,
        soft=soft,
        per_seat=per_seat,
        effective_at=since,
        ended_at=until,
    )
    if as_json:
        _print_json(made)
    else:
        typer.echo(view.sentence(made))


@app.command("end")
def end(
    metric: Metric,
    *,
    plan: Plan = None,
    tenant: Tenant = None,
    window: Length = Window.month,
    at: Annotated[
        dt.datetime | None,
        typer.Option(help="When.", show_default="now", metavar="INSTANT", parser=kinds.instant),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let an entitlement end; what was to begin later does not."""
    printing.prepare()
    ended = end_entitlement(
        plan_key=plan,
        tenant_id=tenant,
        metric=metric,
        window=window,
        ended_at=at,
    )
    if as_json:
        _print_json(ended)
    else:
        said = "never begins" if ended["ended_at"] is None else f"ends at {ended['ended_at']}"
        typer.echo(f"{metric} a {window.value} {said}")


def _pages(
    plan: str | None, tenant: str | None, metric: str | None, show: Literal["current", "all"]
) -> list[EntitlementAnswer]:
    found: list[EntitlementAnswer] = []
    after: UUID | None = None
    while not found or after is not None:
        page = list_entitlements(
            plan_key=plan,
            tenant_id=tenant,
            metric=metric,
            show=show,
            after=after,
            limit=LARGEST_PAGE,
        )
        found += page["entitlements"]
        after = page["next_after"]
        if not page["entitlements"]:
            break
    return found


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))

"""`billing invoice parked` and `retry`: tenants that can not be billed, and why."""

import json
from typing import Annotated

import typer
from rich.table import Table

from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.parking import LARGEST_PAGE, ParkedAnswer, list_parked, retry_parked
from worker.cli import invoice_named, printing
from worker.cli.invoice_named import AsOf

EXIT_STILL_PARKED = 1

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def parked(*, as_json: AsJson = False) -> None:
    """List tenants that can not be billed, the longest parked first, and say why."""
    printing.prepare()
    found = list_parked(limit=LARGEST_PAGE)["parked"]
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    else:
        _print(found)


def retry(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose.", show_default=False)],
    *,
    as_of: AsOf = None,
) -> None:
    """Bill a parked tenant again, now; fails if it can not be billed yet."""
    given = invoice_named.at(as_of)
    printing.prepare()
    stages = retry_parked(tenant_id=tenant, **given)["stages"]
    if not stages:
        typer.echo(f"tenant {tenant} is not parked")
        return
    generate_invoices(tenant_id=tenant, **given)
    finalize_invoices(**given)
    left = list_parked(tenant_id=tenant)["parked"]
    if left:
        _print(left)
        raise typer.Exit(EXIT_STILL_PARKED)
    typer.echo(f"tenant {tenant} is billed again")


def _print(found: list[ParkedAnswer]) -> None:
    table = Table("tenant", "stage", "why", "since", "tries", "next try")
    for one in found:
        row = (one["tenant_id"], one["stage"], one["reason"], printing.instant(one["parked_at"]))
        table.add_row(*row, str(one["tries"]), printing.instant(one["next_try_at"]))
    printing.show(table if found else "nobody is parked")

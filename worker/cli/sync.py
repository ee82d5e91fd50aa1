"""`billing sync`: invoices at the provider."""

from typing import Annotated, Any

import typer
from rich.table import Table

from models.rules.states import InvoiceSyncState
from tasks.syncs import (
    LARGEST_PAGE,
    SyncAnswer,
    SyncShown,
    get_sync,
    list_syncs,
    retry_sync,
    set_provider_customer,
    sync_invoices,
)
from worker.cli import invoice_named, printing
from worker.cli.invoice_named import AsOf, Named
from worker.cli.printing import AsJson, Limit

EXIT_FAILED = 1

app = typer.Typer(help="Invoices at the provider, such as Stripe.", no_args_is_help=True)

State = Annotated[InvoiceSyncState | None, typer.Option(help="In one state.")]


@app.command("list")
def print_list(
    *,
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    state: State = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List invoices that were sent or are to be, those made last first."""
    printing.prepare()
    found = list_syncs(tenant_id=tenant, state=state, limit=limit)
    if as_json:
        printing.print_json(found["syncs"])
        return
    after = found["next_after"]
    table = Table("number", "tenant", "provider", "state", "there", "next try", "tries", "why")
    for one in found["syncs"]:
        table.add_row(*_row(one))
    more = None if after is None else str(after)
    printing.print_table(table, found["syncs"], more, "invoices at a provider")


@app.command()
def show(named: Named, *, as_json: AsJson = False) -> None:
    """Show how far an invoice came, and every try."""
    printing.prepare()
    shown = get_sync(invoice_id=invoice_named.invoice_id(named))
    if as_json:
        printing.print_json(shown)
    else:
        _print(shown)


@app.command()
def retry(
    named: Annotated[
        str | None, typer.Argument(metavar="INVOICE", help="Its id or number.", show_default=False)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that failed.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget a draft there, such as one that was deleted.")
    ] = False,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Send an invoice that failed, or was never sent, to the provider now; fails if it does again.

    Needs the provider's key, as a worker does.
    """
    if every == (named is not None):
        raise typer.BadParameter("name an invoice, or give --all", param_hint="INVOICE")
    printing.prepare()
    given = invoice_named.at(as_of)
    wanted = _failed() if named is None else [invoice_named.invoice_id(named)]
    for invoice_id in wanted:
        retry_sync(invoice_id=invoice_id, anew=anew, **given)
    sync_invoices(**given)
    ended = [get_sync(invoice_id=invoice_id) for invoice_id in wanted]
    if as_json:
        printing.print_json(ended if named is None else ended[0])
    else:
        for one in ended:
            typer.echo(_said(one))
    if any(one["state"] == InvoiceSyncState.failed for one in ended):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def link(
    tenant: printing.Tenant,
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Its id there.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say which customer of the provider a tenant is, where it is one already."""
    printing.prepare()
    answer = set_provider_customer(tenant_id=tenant, remote_id=customer)
    said = f"{tenant} is {answer['remote_id']} at {answer['provider']}"
    printing.say(answer, said, as_json=as_json)


def _failed() -> list[Any]:
    found = list_syncs(state=InvoiceSyncState.failed, limit=LARGEST_PAGE)
    return [one["invoice_id"] for one in found["syncs"]]


def _row(one: SyncAnswer) -> tuple[str, ...]:
    return (
        one["number"] or "",
        one["tenant_id"],
        one["provider"],
        one["state"],
        one["done"].get("invoice", ""),
        printing.instant(one["due_at"], otherwise=""),
        str(one["attempts"] or ""),
        one["reason"] or "",
    )


def _print(shown: SyncShown) -> None:
    typer.echo(_said(shown))
    for step, remote_id in shown["done"].items():
        typer.echo(f"  {step}: {remote_id}")
    table = Table("tried", "step", "outcome", "status", "ms", "why")
    for one in shown["tries"]:
        status = "" if one["status"] is None else str(one["status"])
        at = printing.second(one["attempted_at"])
        why = one["error"] or ""
        table.add_row(at, one["step"], one["outcome"], status, str(one["latency_ms"]), why)
    printing.print_table(table, shown["tries"], None, "tries")


def _said(one: SyncAnswer) -> str:
    said = f"{one['number']} of {one['tenant_id']} at {one['provider']}: {one['state']}"
    if one["reason"]:
        said += f" ({one['reason']})"
    if one["due_at"] is not None:
        said += f", next try {printing.instant(one['due_at'])}"
    return said

"""Invoices: listed, shown, previewed, finalized, settled, laid out, exported."""

import csv
import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer

from models import database
from models.rules.states import InvoiceState
from models.settlement import CreditNote
from models.store import invoice_list
from tasks import config
from tasks.credit_notes import get_credit_note
from tasks.invoice_list import list_invoices, page, preview_invoice, preview_pages
from tasks.invoices import finalize_invoice, get_invoice
from tasks.papers import html
from tasks.papers.paper import Paper
from worker.cli import (
    destination,
    exporting,
    invoice_generating,
    invoice_named,
    invoice_settling,
    invoice_view,
    kinds,
    parked,
    printing,
)
from worker.cli.invoice_named import AsOf, Named
from worker.cli.printing import AsJson, Limit

app = typer.Typer(help="Invoices and credit notes.", no_args_is_help=True)
app.command()(invoice_generating.generate)
app.command()(parked.parked)
app.command()(parked.retry)

Tenant = Annotated[str | None, typer.Option(help="Of one tenant.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Where it is written.", show_default="its number"),
]


@app.command("list")
def print_list(
    *,
    tenant: Tenant = None,
    state: Annotated[InvoiceState | None, typer.Option(help="In one state.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List invoices, those made last first."""
    printing.prepare()
    found = list_invoices(tenant_id=tenant, state=state, limit=limit)
    if as_json:
        printing.print_json(found["invoices"])
        return
    after = found["next_after"]
    table = invoice_view.table(found["invoices"])
    more = None if after is None else str(after)
    printing.print_table(table, found["invoices"], more, "invoices")


@app.command()
def show(named: Named, *, as_json: AsJson = False) -> None:
    """Show an invoice or a credit note as it stands."""
    printing.prepare()
    if as_json:
        printing.print_json(_answer(named))
    else:
        printing.console().print(invoice_view.paper(_page(named)))


@app.command()
def preview(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose.", show_default=False)],
    *,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show what the invoices of the running periods would say now; nothing is written."""
    printing.prepare()
    if as_json:
        arguments: dict[str, Any] = {"tenant_id": tenant, **invoice_named.at(as_of)}
        printing.print_json(preview_invoice(**arguments)["invoices"])
        return
    now = as_of or dt.datetime.now(dt.UTC)
    with database.transaction() as session:
        found = preview_pages(session, tenant, now=now)
    for one in found:
        printing.console().print(invoice_view.paper(one))
    if not found:
        typer.echo(f"tenant {tenant} has no subscription in a running period")


@app.command()
def finalize(named: Named, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Give a draft its number and freeze it, without waiting for the end of its grace period."""
    printing.prepare()
    identifier = invoice_named.invoice_id(named)
    answer = finalize_invoice(invoice_id=identifier, **invoice_named.at(as_of))
    invoice_named.say(answer, as_json=as_json)


app.command()(invoice_settling.pay)
app.command()(invoice_settling.void)
app.command("write-off")(invoice_settling.write_off)
app.command()(invoice_settling.credit)


@app.command("html")
def write_html(named: Named, *, output: Output = None) -> None:
    """Write an invoice or a credit note as one HTML page; - is standard output."""
    printing.prepare()
    shown = _page(named)
    _write(output or _file(shown.number or named, "html"), html.render(shown).encode())


@app.command("pdf")
def write_pdf(named: Named, *, output: Output = None) -> None:
    """Write an invoice or a credit note as PDF; - is standard output."""
    printing.prepare()
    shown = _page(named)
    # Fonts take a quarter of the time in which every command starts; only this one needs them.
    from tasks.papers import pdf  # noqa: PLC0415

    made = pdf.render(shown, made_at=dt.datetime.now(dt.UTC), font=config.current().paper_font)
    _write(output or _file(shown.number or named, "pdf"), made)


@app.command()
def export(
    *,
    tenant: Tenant = None,
    since: Annotated[
        dt.datetime | None,
        typer.Option("--from", help="Issued at or after.", metavar="INSTANT", parser=kinds.instant),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option("--to", help="Issued before.", metavar="INSTANT", parser=kinds.instant),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to.", show_default="standard output"),
    ] = None,
) -> None:
    """Write issued invoices and credit notes as CSV: a row for each line and for each tax.

    Over the rows of a document `total` sums to its total; credit notes are below zero, what was
    withdrawn is one row of zeros.
    """
    wanted = invoice_list.Wanted(
        tenant_id=tenant,
        issued_from=since,
        issued_until=until,
    )
    printing.prepare()
    with destination.text(output, option="--output") as file:
        written = exporting.write(csv.writer(file), wanted)
    if not destination.is_stdout(output):
        typer.echo(f"{output}: {written:,} documents", err=True)


def _page(named: str) -> Paper:
    with database.transaction() as session:
        return page(session, named)


def _answer(named: str) -> Any:
    found = invoice_named.find(named)
    if isinstance(found, CreditNote):
        return get_credit_note(credit_note_id=found.id)
    return get_invoice(invoice_id=found.id)


def _file(number: str, ending: str) -> Path:
    """A file here, named by a number; one such as INV/2026/1 names no folders."""
    return Path(f"{number.replace('/', '-')}.{ending}")


def _write(output: Path, content: bytes) -> None:
    destination.write(output, content, option="--output")
    if not destination.is_stdout(output):
        typer.echo(str(output), err=True)

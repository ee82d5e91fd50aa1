"""Invoices: listed, shown, previewed, finalized, withdrawn, laid out, exported."""

import csv
import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console, RenderableType

from models import database
from models.rules.states import InvoiceState
from models.settlement import CreditNote
from models.store import invoice_list
from models.store.invoice import Header
from tasks import config
from tasks.credit_notes import get_credit_note
from tasks.invoice_list import list_invoices, page, preview_invoice
from tasks.invoices import finalize_invoice, get_invoice
from tasks.papers import html, pdf
from tasks.payments import void_invoice
from worker import boot
from worker.cli import exporting, invoice_view
from worker.cli.instants import instant

WIDTH_ELSEWHERE: Final = 240
"""Characters of a line where there is no terminal to ask."""

app = typer.Typer(help="Invoices and credit notes.", no_args_is_help=True)

Named = Annotated[
    str, typer.Argument(metavar="INVOICE", help="Its number or id.", show_default=False)
]
Tenant = Annotated[str | None, typer.Option(help="Of one tenant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Where it is written. [default: its number]"),
]
AsOf = Annotated[str | None, typer.Option(help="As if it were this instant.", metavar="INSTANT")]


@app.command("list")
def print_list(
    *,
    tenant: Tenant = None,
    state: Annotated[InvoiceState | None, typer.Option(help="In one state.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List invoices, those made last first."""
    with _prepared():
        found = list_invoices(tenant_id=tenant, state=state, limit=limit)["invoices"]
    if as_json:
        _print_json(found)
    else:
        _print(invoice_view.table(found) if found else "no invoices")


@app.command()
def show(named: Named, *, as_json: AsJson = False) -> None:
    """Show an invoice or a credit note as it stands."""
    with _prepared():
        if as_json:
            _print_json(_answer(named))
            return
        with database.transaction() as session:
            shown = page(session, named)
    _print(invoice_view.paper(shown))


@app.command()
def preview(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", show_default=False)],
    *,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show what the invoices of the running periods would say now; nothing is written."""
    arguments: dict[str, Any] = {"tenant_id": tenant, **_at(as_of)}
    with _prepared():
        found = preview_invoice(**arguments)["invoices"]
    if as_json:
        _print_json(found)
        return
    for one in found:
        _print(invoice_view.invoice(one))
    if not found:
        _print(f"tenant {tenant} has no subscription in a running period")


@app.command()
def finalize(named: Named, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Give a draft its number and freeze it, without waiting for the end of its grace period."""
    with _prepared():
        answer = finalize_invoice(invoice_id=_invoice_id(named), **_at(as_of))
    if as_json:
        _print_json(answer)
    else:
        _print(invoice_view.said(answer))


@app.command()
def void(
    named: Named,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept and printed.")],
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw a finalized invoice that nobody has paid; its number stays used."""
    with _prepared():
        answer = void_invoice(invoice_id=_invoice_id(named), reason=reason, **_at(as_of))
    if as_json:
        _print_json(answer)
    else:
        _print(invoice_view.said(answer))


@app.command("html")
def write_html(named: Named, *, output: Output = None) -> None:
    """Write an invoice or a credit note as one HTML page; - is standard output."""
    with _prepared(), database.transaction() as session:
        shown = page(session, named)
    _write(output or _file(shown.number or named, "html"), html.render(shown).encode())


@app.command("pdf")
def write_pdf(named: Named, *, output: Output = None) -> None:
    """Write an invoice or a credit note as PDF; - is standard output."""
    with _prepared(), database.transaction() as session:
        shown = page(session, named)
    made = pdf.render(shown, made_at=dt.datetime.now(dt.UTC), font=config.current().paper_font)
    _write(output or _file(shown.number or named, "pdf"), made)


@app.command()
def export(
    *,
    tenant: Tenant = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Issued at or after.", metavar="INSTANT")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Issued before.", metavar="INSTANT")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: standard output]")
    ] = None,
) -> None:
    """Write issued invoices and credit notes as CSV: a row for each line and for each tax.

    Over the rows of a document `total` sums to its total; credit notes are below zero, what was
    withdrawn is one row of zeros.
    """
    wanted = invoice_list.Wanted(
        tenant_id=tenant,
        issued_from=instant(since, option="--from"),
        issued_until=instant(until, option="--to"),
    )
    with _prepared():
        if output is None:
            exporting.write(csv.writer(sys.stdout), wanted)
            return
        with output.open("w", encoding="utf-8", newline="") as file:
            written = exporting.write(csv.writer(file), wanted)
    typer.echo(f"{output}: {written:,} documents", err=True)


@contextmanager
def _prepared() -> Iterator[None]:
    boot.prepare()
    # No broker is needed: the sender finds what is due by its timetable, in seconds.
    config.use(dataclasses.replace(config.current(), kick=False))
    try:
        yield
    finally:
        database.dispose()


def _answer(named: str) -> Any:
    found = _find(named)
    if isinstance(found, CreditNote):
        return get_credit_note(credit_note_id=found.id)
    return get_invoice(invoice_id=found.id)


def _find(named: str) -> Header | CreditNote:
    with database.transaction() as session:
        return invoice_list.find(session, named)


def _invoice_id(named: str) -> UUID:
    found = _find(named)
    if isinstance(found, CreditNote):
        raise typer.BadParameter(
            f"{named} is a credit note of invoice {found.invoice_id}", param_hint="INVOICE"
        )
    return found.id


def _at(as_of: str | None) -> dict[str, Any]:
    at = instant(as_of, option="--as-of")
    return {} if at is None else {"as_of": at}


def _file(number: str, ending: str) -> Path:
    """A file here, named by a number; one such as INV/2026/1 names no folders."""
    return Path(f"{number.replace('/', '-')}.{ending}")


def _write(output: Path, content: bytes) -> None:
    if str(output) == "-":
        sys.stdout.buffer.write(content)
        return
    output.write_bytes(content)
    typer.echo(str(output), err=True)


def _print(what: RenderableType) -> None:
    # A file or a pipe is as wide as it needs to be.
    width = None if sys.stdout.isatty() else WIDTH_ELSEWHERE
    Console(markup=False, highlight=False, width=width).print(what)


def _print_json(what: Any) -> None:
    typer.echo(json.dumps(what, indent=2, ensure_ascii=False, default=str))

"""What commands about one invoice share: finding it by its number or id."""

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

import typer

from models import database
from models.settlement import CreditNote
from models.store import invoice_list
from models.store.invoice import Header
from worker.cli import invoice_view, kinds, printing

Named = Annotated[
    str, typer.Argument(metavar="INVOICE", help="Its number or id.", show_default=False)
]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option(help="As if it were this instant.", metavar="INSTANT", parser=kinds.instant),
]


def find(named: str) -> Header | CreditNote:
    """Return the invoice, or the credit note, of a number or an id.

    Raises:
        UnknownInvoice: there is none by that name.
    """
    with database.transaction() as session:
        return invoice_list.find(session, named)


def invoice_id(named: str) -> UUID:
    """Return the id of an invoice.

    Raises:
        UnknownInvoice: there is none by that name.
        typer.BadParameter: it is a credit note's.
    """
    found = find(named)
    if isinstance(found, CreditNote):
        raise typer.BadParameter(
            f"{named} is a credit note of invoice {found.invoice_id}", param_hint="INVOICE"
        )
    return found.id


def at(as_of: dt.datetime | None) -> dict[str, Any]:
    """Return `as_of` as a task takes it: nothing, if it was not given."""
    return {} if as_of is None else {"as_of": as_of}


def say(answer: Any, *, as_json: bool) -> None:
    """Print where an invoice stands."""
    if as_json:
        printing.print_json(answer)
    else:
        typer.echo(invoice_view.said(answer))

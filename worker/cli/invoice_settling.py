"""After an invoice: paid, withdrawn, written off, taken back, by hand."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import typer

from models import database
from models.rules import money
from models.store import invoice as invoices
from tasks.credit_notes import create_credit_note
from tasks.payments import record_payment
from tasks.unpaid import void_invoice, write_off_invoice
from worker.cli import invoice_named, invoice_view, kinds, printing
from worker.cli.invoice_named import AsOf, Named
from worker.cli.printing import AsJson, Key

Reason = Annotated[str, typer.Option(help="Why; it is kept and printed.")]


def _line(given: str) -> dict[str, Any]:
    place, parted, amount = given.partition("=")
    if not place.isdecimal():
        raise typer.BadParameter(
            f"{given!r} must be a line's place, as 2, or with an amount, as 2=10.50"
        )
    return {"line": int(place), **({"amount": kinds.amount(amount)} if parted else {})}


def pay(
    named: Named,
    *,
    payment_id: Annotated[
        str,
        typer.Option(help="Its name where it was made, such as the bank's; it is entered once."),
    ],
    amount: Annotated[
        Decimal | None,
        typer.Option(
            help="How much came, in major units.",
            show_default="what is still open",
            metavar="AMOUNT",
            parser=kinds.amount,
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="Where the payment id comes from.")] = "manual",
    received_at: Annotated[
        dt.datetime | None,
        typer.Option(
            help="When it came.", metavar="INSTANT", show_default="now", parser=kinds.instant
        ),
    ] = None,
    excess: Annotated[
        bool, typer.Option("--excess-to-credit", help="Keep more than is due as prepaid credit.")
    ] = False,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Enter money that came for an invoice, all that is open or part of it."""
    printing.prepare()
    header = _header(named)
    if amount is None and header.open_minor <= 0:
        raise typer.BadParameter(
            f"nothing of {named} is open; say how much came", param_hint="--amount"
        )
    arguments: dict[str, Any] = {
        "amount": amount or money.from_minor(header.open_minor, header.currency),
        "received_at": received_at,
        "excess": "credit" if excess else "refuse",
        **invoice_named.at(as_of),
    }
    answer = record_payment(invoice_id=header.id, payment_id=payment_id, method=method, **arguments)
    invoice_named.say(answer, as_json=as_json)


def void(named: Named, *, reason: Reason, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Withdraw a finalized invoice that nobody has paid; its number stays used."""
    printing.prepare()
    identifier = invoice_named.invoice_id(named)
    answer = void_invoice(invoice_id=identifier, reason=reason, **invoice_named.at(as_of))
    invoice_named.say(answer, as_json=as_json)


def write_off(named: Named, *, reason: Reason, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Write a finalized invoice off as a loss; a payment after all still settles it."""
    printing.prepare()
    identifier = invoice_named.invoice_id(named)
    answer = write_off_invoice(invoice_id=identifier, reason=reason, **invoice_named.at(as_of))
    invoice_named.say(answer, as_json=as_json)


def credit(
    named: Named,
    *,
    reason: Reason,
    line: Annotated[
        list[Any] | None,
        typer.Option(
            help="A line to take back, as 2, or part of it, as 2=10.50; repeatable.",
            metavar="LINE",
            parser=_line,
        ),
    ] = None,
    amount: Annotated[
        Decimal | None,
        typer.Option(
            help="How much to take back, taxes included, over all lines.",
            metavar="AMOUNT",
            parser=kinds.amount,
        ),
    ] = None,
    to_credit: Annotated[
        bool, typer.Option("--to-credit", help="Make what was paid prepaid credit, not a payout.")
    ] = False,
    key: Key = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Take back an invoice, or part of it, with a credit note; all that is left, if not said."""
    printing.prepare()
    arguments: dict[str, Any] = {
        "lines": line or None,
        "amount": amount,
        "refund": "credit" if to_credit else "payout",
        "idempotency_key": printing.key_or_new(key),
        **invoice_named.at(as_of),
    }
    answer = create_credit_note(
        invoice_id=invoice_named.invoice_id(named), reason=reason, **arguments
    )
    if as_json:
        printing.print_json(answer)
    else:
        typer.echo(invoice_view.credited(answer, named))


def _header(named: str) -> invoices.Header:
    identifier = invoice_named.invoice_id(named)
    with database.transaction() as session:
        return invoices.get(session, identifier)

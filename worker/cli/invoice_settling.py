"""After an invoice: paid, withdrawn, written off, taken back, by hand."""

from typing import Annotated, Any

import typer

from models import database
from models.rules import money
from models.store import invoice as invoices
from tasks.credit_notes import create_credit_note
from tasks.payments import record_payment, void_invoice, write_off_invoice
from worker.cli import invoice_named, invoice_view, printing
from worker.cli.instants import instant
from worker.cli.invoice_named import AsOf, Named
from worker.cli.printing import AsJson, Key

Reason = Annotated[str, typer.Option(help="Why; it is kept and printed.")]


def pay(
    named: Named,
    *,
    payment_id: Annotated[
        str,
        typer.Option(help="Its name where it was made, such as the bank's; it is entered once."),
    ],
    amount: Annotated[
        str | None,
        typer.Option(help="How much came, in major units.", show_default="what is still open"),
    ] = None,
    method: Annotated[str, typer.Option(help="Where the payment id comes from.")] = "manual",
    received_at: Annotated[
        str | None, typer.Option(help="When it came.", metavar="INSTANT", show_default="now")
    ] = None,
    excess: Annotated[
        bool, typer.Option("--excess-to-credit", help="Keep more than is due as prepaid credit.")
    ] = False,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Enter money that came for an invoice, all that is open or part of it."""
    at = instant(received_at, option="--received-at")
    printing.prepare()
    header = _header(named)
    if amount is None and header.open_minor <= 0:
        raise typer.BadParameter(
            f"nothing of {named} is open; say how much came", param_hint="--amount"
        )
    arguments: dict[str, Any] = {
        "amount": amount or str(money.from_minor(header.open_minor, header.currency)),
        "received_at": at,
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
        list[str] | None,
        typer.Option(help="A line to take back, as 2, or part of it, as 2=10.50; repeatable."),
    ] = None,
    amount: Annotated[
        str | None, typer.Option(help="How much to take back, taxes included, over all lines.")
    ] = None,
    to_credit: Annotated[
        bool, typer.Option("--to-credit", help="Make what was paid prepaid credit, not a payout.")
    ] = False,
    key: Key = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Take back an invoice, or part of it, with a credit note; all that is left, if not said."""
    lines = [_line(one) for one in line] if line else None
    printing.prepare()
    arguments: dict[str, Any] = {
        "lines": lines,
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


def _line(given: str) -> Any:
    place, _, amount = given.partition("=")
    if not place.isdecimal():
        raise typer.BadParameter(
            f"{given!r} must be a line's place, as 2, or with an amount, as 2=10.50",
            param_hint="--line",
        )
    return {"line": int(place), **({"amount": amount} if amount else {})}

"""Orders: what was bought, paid, and taken back."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from models.rules import money
from models.rules.states import OrderState
from tasks.order_list import get_order, list_orders
from tasks.order_refunds import refund_order
from tasks.ordering import OrderAnswer
from tasks.orders import cancel_order, create_order, process_payment
from worker.cli import kinds, printing
from worker.cli.printing import Actor, AsJson, Key, Reason, number

app = typer.Typer(help="What was bought, paid, and taken back.", no_args_is_help=True)

LONGEST_LIST = 500


OrderId = Annotated[
    UUID, typer.Argument(metavar="ID", help="Which order.", parser=kinds.named("order"))
]


@app.command("list")
def print_list(
    *,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    state: Annotated[
        OrderState | None, typer.Option(help="In this state only.", case_sensitive=False)
    ] = None,
    sku: Annotated[str | None, typer.Option(help="With this offer among the items.")] = None,
    since: Annotated[
        dt.datetime | None,
        typer.Option(help="Made then or later.", metavar="INSTANT", parser=kinds.instant),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option(help="Made before then.", metavar="INSTANT", parser=kinds.instant),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=LONGEST_LIST)] = 50,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first."""
    printing.prepare()
    found = list_orders(
        tenant_id=tenant,
        state=state,
        sku=sku,
        date_from=since,
        date_to=until,
        limit=limit,
    )
    if as_json:
        printing.print_json(found["orders"])
        return
    table = Table("order", "tenant", "state", "items")
    table.add_column("total", justify="right", no_wrap=True)
    table.add_column("payment")
    table.add_column("made", no_wrap=True)
    for one in found["orders"]:
        table.add_row(
            str(one["order_id"]),
            one["tenant_id"],
            one["state"],
            _items(one),
            _money(one["total_minor"], one),
            _payment(one),
            printing.instant(one["created_at"]),
        )
    printing.print_table(table, found["orders"], found["next_cursor"], "orders")


@app.command()
def show(order_id: OrderId) -> None:
    """Print one as JSON."""
    printing.prepare()
    printing.print_json(get_order(order_id=order_id))


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who buys.")],
    items: Annotated[
        list[str],
        typer.Argument(metavar="SKU[=N]…", help="Which offers, and how many of each if not one."),
    ],
    *,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Order offers at the catalogue's price; what costs nothing is granted at once."""
    ordered: list[Any] = [_ordered(item) for item in items]
    printing.prepare()
    answer = create_order(tenant_id=tenant, items=ordered, idempotency_key=printing.key_or_new(key))
    waits = "granted" if answer["state"] == OrderState.paid else "waits for its payment"
    said = (
        f"order {answer['order_id']}: {_items(answer)} for "
        f"{_money(answer['total_minor'], answer)}, {waits}"
    )
    printing.say(answer, said, as_json=as_json)


@app.command()
def pay(
    order_id: OrderId,
    payment_id: Annotated[str, typer.Argument(metavar="PAYMENT", help="The payment's name.")],
    *,
    method: Annotated[str, typer.Option(help="Where it was made, as stripe or bank.")] = "manual",
    amount: Annotated[
        Decimal | None,
        typer.Option(help="What was paid, to be checked.", metavar="AMOUNT", parser=kinds.amount),
    ] = None,
    currency: Annotated[
        str | None, typer.Option(help="Its currency, to be checked.", parser=kinds.currency)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Confirm an order by its payment, and grant what it holds."""
    paid: dict[str, Any] = {"amount": amount, "currency": currency}
    printing.prepare()
    answer = process_payment(
        order_id=order_id, payment_id=payment_id, payment_method=method, **paid
    )
    if as_json:
        printing.print_json(answer)
        return
    for line in answer["items"]:
        for one in line["grants"]:
            typer.echo(
                f"granted {number(one['amount'])} of {one['product_key']} to "
                f"{answer['tenant_id']}: batch {one['batch_id']}"
            )


@app.command()
def cancel(
    order_id: OrderId,
    *,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    actor: Actor = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give up an order that was not paid."""
    printing.prepare()
    answer = cancel_order(
        order_id=order_id,
        reason=reason,
        actor=printing.actor_or_user(actor),
        idempotency_key=printing.key_or_new(key),
    )
    printing.say(answer, f"cancelled order {order_id}", as_json=as_json)


@app.command()
def refund(
    order_id: OrderId,
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take back what remains of a paid order's credit; says what to pay back."""
    printing.prepare()
    answer = refund_order(
        order_id=order_id,
        reason=reason,
        actor=printing.actor_or_user(actor),
        idempotency_key=printing.key_or_new(key),
    )
    if as_json:
        printing.print_json(answer)
        return
    table = Table("item", "product")
    for name in ("granted", "consumed", "held", "lapsed", "taken back"):
        table.add_column(name, justify="right")
    for line in answer["items"]:
        for one in line["grants"]:
            parts = (one["amount"], one["consumed"], one["held"], one["lapsed"], one["revoked"])
            table.add_row(line["sku"], one["product_key"], *map(number, parts))
    printing.show(table)
    typer.echo(
        f"refundable: {_money(answer['refundable_minor'] or 0, answer)} of "
        f"{_money(answer['total_minor'], answer)}"
    )


def _ordered(text: str) -> dict[str, Any]:
    sku, equals, quantity = text.partition("=")
    if equals and not quantity.isdecimal():
        raise typer.BadParameter(
            f"{text!r} must be SKU or SKU=NUMBER, such as STARTER=2", param_hint="SKU"
        )
    return {"sku": sku, "quantity": int(quantity) if equals else 1}


def _items(order: OrderAnswer) -> str:
    return ", ".join(f"{line['quantity']:,} x {line['sku']}" for line in order["items"])


def _money(minor: int, order: OrderAnswer) -> str:
    return money.format_minor(minor, order["currency"])


def _payment(order: OrderAnswer) -> str:
    if order["payment_id"] is None:
        return ""
    return f"{order['payment_id']} by {order['payment_method']}"

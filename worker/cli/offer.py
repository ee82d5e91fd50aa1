"""Offers: how products are sold."""

import re
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from tasks.exchange import exchange as buy_offer
from tasks.offer_grants import grant_offer
from tasks.offers import OfferAnswer, get_offer, list_offers, set_offer
from worker.cli import catalog_table, printing
from worker.cli.printing import AsJson, Key, Limit, number

ITEM: Final = re.compile(
    r"(?P<product_key>[^=]+)=(?P<quantity>[^:=]+)"
    r"(?::(?:(?P<value>\d+) *(?P<period>hour|day|month|year)s?|forever))?"
)

app = typer.Typer(help="How products are sold.", no_args_is_help=True)

Sku = Annotated[str, typer.Argument(metavar="SKU", help="Which offer.")]
Active = Annotated[
    bool | None, typer.Option("--active/--inactive", help="Whether it is sold.", show_default=False)
]


@app.command("list")
def print_list(
    *,
    active: Active = None,
    currency: Annotated[str | None, typer.Option(help="Priced in it.")] = None,
    product: Annotated[str | None, typer.Option(help="That grant it.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List offers by sku."""
    printing.prepare()
    found = list_offers(active=active, currency=currency, product_key=product, limit=limit)
    if as_json:
        printing.print_json(found["offers"])
        return
    table = Table("sku", "name")
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("grants")
    table.add_column("active")
    for one in found["offers"]:
        table.add_row(
            one["sku"], one["name"], _price(one), _items(one), "yes" if one["active"] else "no"
        )
    printing.print_table(table, found["offers"], found["next_cursor"], "offers")


@app.command()
def show(sku: Sku) -> None:
    """Print one as JSON."""
    printing.prepare()
    printing.print_json(get_offer(sku=sku))


@app.command("set")
def set_(
    sku: Sku,
    *,
    name: Annotated[str | None, typer.Option(help="What people read.")] = None,
    price: Annotated[str | None, typer.Option(help="In major units, as 12.30.")] = None,
    currency: Annotated[
        str | None, typer.Option(help="An ISO 4217 code, or the key of a currency product.")
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(
            help="PRODUCT=QUANTITY, and :30days (hours, days, months, years) unless it is valid "
            "forever. Once for each; together they replace all that were there.",
            metavar="ITEM",
        ),
    ] = None,
    active: Active = None,
    as_json: AsJson = False,
) -> None:
    """Make an offer, or change what is given; what is not given stays."""
    arguments: dict[str, Any] = {
        "name": name,
        "price": price,
        "currency": currency,
        "items": [_item(one) for one in item] if item else None,
        "active": active,
    }
    printing.prepare()
    answer = set_offer(sku=sku, **arguments)
    if as_json:
        printing.print_json(answer)
        return
    typer.echo(f"offer {answer['sku']}: {_items(answer)} for {_price(answer)}")


@app.command()
def grant(
    sku: Sku,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who gets it.")],
    *,
    quantity: Annotated[int, typer.Option(help="How many of it.", min=1, max=1_000_000)] = 1,
    source: Annotated[str, typer.Option(help="Where it comes from.")] = "manual",
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Grant an offer without payment: one batch an item."""
    printing.prepare()
    answer = grant_offer(
        tenant_id=tenant,
        sku=sku,
        quantity=quantity,
        source=source,
        idempotency_key=printing.key_or_new(key),
    )
    if as_json:
        printing.print_json(answer)
        return
    for batch in answer["batches"]:
        typer.echo(
            f"granted {number(batch['amount'])} of {batch['product_key']} to {tenant} until "
            f"{printing.instant(batch['expires_at'], otherwise='further notice')}: balance "
            f"{number(batch['balance'])}, batch {batch['batch_id']}"
        )


@app.command()
def exchange(
    sku: Sku,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who pays and gets it.")],
    *,
    quantity: Annotated[int, typer.Option(help="How many of it.", min=1, max=1_000_000)] = 1,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Spend a currency product to get an offer. Exit status 1 if there is too little of it."""
    printing.prepare()
    answer: dict[str, Any] = dict(
        buy_offer(
            tenant_id=tenant,
            sku=sku,
            quantity=quantity,
            idempotency_key=printing.key_or_new(key),
        )
    )
    price = f"{number(answer['price'])} {answer['currency']}"
    if not answer["exchanged"]:
        there = number(answer["available"])
        said = f"nothing was spent: {there} can be spent, {price} are needed"
        printing.refuse(answer, said, as_json=as_json)
    batches = ", ".join(
        f"{number(batch['amount'])} {batch['product_key']}" for batch in answer["batches"]
    )
    said = f"spent {price} for {batches}: {number(answer['balance'])} {answer['currency']} left"
    printing.say(answer, said, as_json=as_json)


def _item(text: str) -> dict[str, Any]:
    match = ITEM.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} must be PRODUCT=QUANTITY, such as CALLS=100, or with how long it is valid, "
            "such as CALLS=100:30days",
            param_hint="--item",
        )
    item: dict[str, Any] = {
        "product_key": match["product_key"],
        "quantity": match["quantity"].strip(),
    }
    if match["value"] is not None:
        item |= {"period": f"{match['period']}s", "value": int(match["value"])}
    return item


def _price(offer: OfferAnswer) -> str:
    return f"{offer['price']} {offer['currency']}"


def _items(offer: OfferAnswer) -> str:
    return ", ".join(
        f"{number(item['quantity'])} {item['product_key']}"
        + _validity(item["value"], item["period"])
        for item in offer["items"]
    )


def _validity(value: int | None, period: str) -> str:
    if value is None:
        return ""
    return f" for {value} {period.removesuffix('s') if value == 1 else period}"


catalog_table.add(app, "offers")

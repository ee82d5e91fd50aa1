"""Products: what credit is counted in."""

from typing import Annotated, Any

import typer
from rich.table import Table

from models.catalog import ProductType
from models.rules.burndown import Policy
from models.store.product import UnknownProduct
from tasks.catalog import get_product, list_products, set_product
from worker.cli import catalog_table, printing
from worker.cli.printing import AsJson, Limit

app = typer.Typer(help="What credit is counted in.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The product's key.")]
Active = Annotated[
    bool | None,
    typer.Option("--active/--inactive", help="Whether it is granted.", show_default=False),
]
Type = Annotated[
    ProductType | None, typer.Option("--type", help="What use takes away.", show_default=False)
]
IsCurrency = Annotated[
    bool | None,
    typer.Option(
        "--currency/--no-currency", help="Offers can be priced in it.", show_default=False
    ),
]

BurnPolicy = Annotated[
    Policy | None,
    typer.Option(
        "--burn-policy",
        help="Which credit of equal priority is spent first: the oldest, or what ends first.",
        show_default=False,
    ),
]


@app.command("list")
def print_list(
    *,
    active: Active = None,
    type_: Type = None,
    is_currency: IsCurrency = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List products by key."""
    printing.prepare()
    found = list_products(active=active, type=type_, is_currency=is_currency, limit=limit)
    if as_json:
        printing.print_json(found["products"])
        return
    table = Table("product", "name", "type", "currency", "burns", "active")
    for one in found["products"]:
        table.add_row(
            one["product_key"],
            one["name"],
            one["type"],
            "yes" if one["is_currency"] else "",
            one["burn_policy"],
            "yes" if one["active"] else "no",
        )
    printing.print_table(table, found["products"], found["next_cursor"], "products")


@app.command()
def show(key: Key) -> None:
    """Print one as JSON."""
    printing.prepare()
    printing.print_json(get_product(product_key=key))


@app.command("set")
def set_(
    key: Key,
    *,
    name: Annotated[str | None, typer.Option(help="What people read.")] = None,
    type_: Type = None,
    is_currency: IsCurrency = None,
    burn_policy: BurnPolicy = None,
    active: Active = None,
    as_json: AsJson = False,
) -> None:
    """Make a product, or change what is given; what is not given stays."""
    printing.prepare()
    known = _known(key)
    answer = set_product(
        product_key=key,
        name=name or known.get("name") or key,
        type=type_ or known.get("type") or ProductType.quantity,
        is_currency=is_currency,
        burn_policy=burn_policy,
        active=active,
    )
    if as_json:
        printing.print_json(answer)
        return
    typer.echo(f"{'changed' if known else 'made'} product {answer['product_key']}")


def _known(key: str) -> dict[str, Any]:
    try:
        return dict(get_product(product_key=key))
    except UnknownProduct:
        return {}


catalog_table.add(app, "products")

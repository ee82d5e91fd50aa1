"""`billing wallet notices`: when a tenant is told that credit is low, or about to expire."""

from decimal import Decimal
from typing import Annotated, Any

import typer

from tasks.notices import Notices, get_notices, set_notices
from worker.cli import kinds, printing
from worker.cli.printing import AsJson, Tenant, number


def notices(
    tenant: Tenant,
    product: Annotated[
        str | None, typer.Argument(metavar="PRODUCT", help="Change those of it.")
    ] = None,
    *,
    low: Annotated[
        list[Decimal] | None,
        typer.Option(
            help="Tell when so much is left. Once for each.",
            metavar="AMOUNT",
            parser=kinds.used_amount,
        ),
    ] = None,
    expiring: Annotated[
        list[int] | None,
        typer.Option(help="Tell so many days before a batch ends. Once for each.", metavar="DAYS"),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Tell nothing of the product.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a tenant is told of its credit, or make that of a product be exactly this."""
    changes = bool(low or expiring or off)
    if changes and (product is None or (off and (low or expiring))):
        raise typer.BadParameter("name the PRODUCT, and give either --off or what is to be told")
    given: dict[str, Any] = {"low": low, "expiring_days": expiring}
    printing.prepare()
    answer = (
        set_notices(tenant_id=tenant, product_key=product, **given)
        if changes and product is not None
        else get_notices(tenant_id=tenant)
    )
    shown = [_line(one) for one in answer["notices"] if _is_meant(one, product)]
    said = "\n".join(shown) or f"{tenant} is told nothing"
    printing.say(answer, said, as_json=as_json)


def _is_meant(one: Notices, product: str | None) -> bool:
    return product is None or one["product_key"] == product.strip().upper()


def _line(one: Notices) -> str:
    told = []
    if one["low"]:
        told.append(f"when {_listed([number(amount) for amount in one['low']])} is left")
    if one["expiring_days"]:
        days = _listed([f"{number}" for number in one["expiring_days"]])
        told.append(f"{days} day{'' if one['expiring_days'] == [1] else 's'} before a batch ends")
    return f"{one['product_key']}: {', and '.join(told)}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"

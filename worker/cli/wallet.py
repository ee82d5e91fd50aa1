"""Wallets: what a tenant has, and changing it by hand."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import typer

from tasks.adjustments import adjust_credits, grant_credits
from tasks.batch_list import list_batches
from tasks.credits import consume_quota
from tasks.ledger import list_ledger
from tasks.wallets import get_wallet
from worker.cli import (
    credit_view,
    kinds,
    printing,
    wallet_ledger,
    wallet_notices,
    wallet_use,
)
from worker.cli.printing import Actor, AsJson, Key, Reason, Tenant, number

MOST_BARS = 20
"""Batches that are drawn; `billing batch list` shows all."""

app = typer.Typer(help="What a tenant has, and changing it by hand.", no_args_is_help=True)
app.command()(wallet_ledger.ledger)
app.command()(wallet_use.check)
app.command()(wallet_use.deduct)
app.command()(wallet_use.refund)
app.command()(wallet_use.allocate)
app.command()(wallet_notices.notices)

Product = Annotated[str, typer.Argument(metavar="PRODUCT", help="Of which product.")]
Amount = Annotated[
    Decimal, typer.Argument(metavar="AMOUNT", help="Units, above 0.", parser=kinds.amount)
]
ExpiresAt = Annotated[
    dt.datetime | None,
    typer.Option(
        help="From when it can not be spent.",
        metavar="INSTANT",
        show_default="never",
        parser=kinds.instant,
    ),
]


@app.command()
def show(
    tenant: Tenant,
    *,
    entries: Annotated[
        int, typer.Option(help="Entries of the ledger to show.", min=0, max=1_000)
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Show balances, what remains of each usable batch, and the newest entries of the ledger."""
    printing.prepare()
    now = dt.datetime.now(dt.UTC)
    held = get_wallet(tenant_id=tenant, as_of=now)
    usable = list_batches(tenant_id=tenant, usable=True, limit=MOST_BARS, as_of=now)
    newest = list_ledger(tenant_id=tenant, limit=max(entries, 1))["entries"][:entries]
    if as_json:
        printing.print_json({**held, "batches": usable["batches"], "ledger": newest})
        return
    console = printing.console()
    if not held["products"]:
        console.print(f"{tenant}: nothing was ever granted")
        return
    console.print(tenant)
    printing.show(credit_view.holdings(held["products"], console))
    if usable["batches"]:
        printing.show(credit_view.bars(usable["batches"], console, now=now))
    if usable["next_cursor"] is not None:
        console.print(f"only the newest {MOST_BARS}; billing batch list {tenant} shows all")
    if newest:
        printing.show(credit_view.ledger(newest, console))


@app.command()
def grant(
    tenant: Tenant,
    product: Product,
    amount: Amount,
    *,
    reason: Reason,
    actor: Actor = None,
    valid_from: Annotated[
        dt.datetime | None,
        typer.Option(
            help="From when it can be spent.",
            metavar="INSTANT",
            show_default="now",
            parser=kinds.instant,
        ),
    ] = None,
    expires_at: ExpiresAt = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Grant a batch of credit."""
    arguments = {
        "reason": reason,
        "actor": printing.actor_or_user(actor),
        "valid_from": valid_from,
        "expires_at": expires_at,
        "idempotency_key": printing.key_or_new(key),
    }
    printing.prepare()
    answer = _called(grant_credits, tenant, product, amount, arguments)
    batch = answer["batch"]
    printing.say(
        answer,
        f"granted {number(batch['amount'])} of {batch['product_key']} to {tenant}: balance "
        f"{number(batch['balance'])}, batch {batch['batch_id']}",
        as_json=as_json,
    )


# So that "-5" is an amount and not an unknown option.
@app.command(context_settings={"ignore_unknown_options": True})
def adjust(
    tenant: Tenant,
    product: Product,
    amount: Annotated[
        Decimal,
        typer.Argument(
            metavar="AMOUNT", help="Units to add, or with a minus to take.", parser=kinds.change
        ),
    ],
    *,
    reason: Reason,
    actor: Actor = None,
    expires_at: ExpiresAt = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Correct a balance, up or down. Exit status 1 if there is too little to take."""
    arguments = {
        "reason": reason,
        "actor": printing.actor_or_user(actor),
        "expires_at": expires_at,
        "idempotency_key": printing.key_or_new(key),
    }
    printing.prepare()
    answer = _called(adjust_credits, tenant, product, amount, arguments)
    if not answer["adjusted"]:
        printing.refuse(
            answer, f"nothing was taken: {_too_little(answer, amount)}", as_json=as_json
        )
    printing.say(
        answer,
        f"adjusted {answer['product_key']} of {tenant} by {number(answer['amount'])}: balance "
        f"{number(answer['balance'])}",
        as_json=as_json,
    )


@app.command()
def consume(
    tenant: Tenant, product: Product, amount: Amount, *, key: Key = None, as_json: AsJson = False
) -> None:
    """Spend credit. Exit status 1 if there is too little."""
    printing.prepare()
    arguments = {"idempotency_key": printing.key_or_new(key)}
    answer = _called(consume_quota, tenant, product, amount, arguments)
    if not answer["consumed"]:
        printing.refuse(
            answer, f"nothing was spent: {_too_little(answer, amount)}", as_json=as_json
        )
    batches = len(answer["batches"])
    printing.say(
        answer,
        f"spent {number(answer['amount'])} from {batches} batch{'' if batches == 1 else 'es'}: "
        f"balance {number(answer['balance'])}",
        as_json=as_json,
    )


def _called(
    task: Any, tenant: str, product: str, amount: Decimal, arguments: dict[str, Any]
) -> dict[str, Any]:
    answer: dict[str, Any] = task(tenant_id=tenant, product_key=product, amount=amount, **arguments)
    return answer


def _too_little(answer: dict[str, Any], amount: Decimal) -> str:
    wanted = number(str(abs(amount)))
    return f"{number(answer['available'])} can be spent, {wanted} are needed"

"""`billing wallet check|deduct|refund|allocate`: using credit, and giving back what a use took."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import typer

from tasks.allocations import allocate_subscription_credits
from tasks.credits import deduct_after_service
from tasks.refunds import refund_use
from tasks.wallets import check_quota
from worker.cli import kinds, printing
from worker.cli.printing import AsJson, Key, Reason, Tenant, number

Product = Annotated[str, typer.Argument(metavar="PRODUCT", help="Of which product.")]


def check(
    tenant: Tenant,
    product: Product,
    amount: Annotated[
        Decimal | None,
        typer.Argument(metavar="AMOUNT", help="Units.", show_default="any", parser=kinds.amount),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Tell whether so much can be used now. Exit status 1 if not."""
    printing.prepare()
    answer = check_quota(tenant_id=tenant, product_key=product, amount=amount)
    printing.say(answer, answer["message"], as_json=as_json)
    if not answer["can_use"]:
        raise typer.Exit(1)


def deduct(
    tenant: Tenant,
    product: Product,
    amount: Annotated[
        Decimal, typer.Argument(metavar="AMOUNT", help="Units, above 0.", parser=kinds.amount)
    ],
    *,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Spend for what was used already: what is not there becomes debt."""
    printing.prepare()
    answer = deduct_after_service(
        tenant_id=tenant,
        product_key=product,
        amount=amount,
        idempotency_key=printing.key_or_new(key),
    )
    owed = "" if answer["debt"] == "0" else f", {number(answer['debt'])} owed"
    said = f"spent {number(answer['amount'])}: balance {number(answer['balance'])}{owed}"
    printing.say(answer, said, as_json=as_json)


def refund(
    tenant: Tenant,
    *,
    consumed: Annotated[
        str | None, typer.Option(help="The use: the key it was consumed by.", metavar="KEY")
    ] = None,
    deducted: Annotated[
        str | None, typer.Option(help="Or the key it was deducted by.", metavar="KEY")
    ] = None,
    reservation: Annotated[
        UUID | None,
        typer.Option(
            help="Or the hold that was committed.",
            metavar="ID",
            parser=kinds.named("reservation"),
        ),
    ] = None,
    amount: Annotated[
        Decimal | None,
        typer.Option(
            help="How much.", show_default="all of it", metavar="AMOUNT", parser=kinds.amount
        ),
    ] = None,
    reason: Reason,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give back what one use took, the last taken first. Exit status 1 if it took less."""
    use: dict[str, Any] = {
        "consume_key": consumed,
        "deduct_key": deducted,
        "reservation_id": reservation,
        "amount": amount,
    }
    printing.prepare()
    answer: dict[str, Any] = dict(
        refund_use(tenant_id=tenant, reason=reason, idempotency_key=printing.key_or_new(key), **use)
    )
    if not answer["refunded"]:
        left = number(answer["refundable"])
        printing.refuse(answer, f"nothing was given back: {left} of it can be", as_json=as_json)
    lost = answer["written_off"]
    over = "" if lost == "0" else f", {number(lost)} of it to batches that had ended"
    printing.say(
        answer,
        f"gave back {number(answer['amount'])} of {answer['product_key']}{over}: balance "
        f"{number(answer['balance'])}",
        as_json=as_json,
    )


def allocate(
    subscription_id: Annotated[
        UUID,
        typer.Argument(
            metavar="SUBSCRIPTION",
            help="Whose plan's credit.",
            parser=kinds.named("subscription"),
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Give a subscription its plan's credit of every period that is due, as the schedule does."""
    printing.prepare()
    answer: dict[str, Any] = dict(allocate_subscription_credits(subscription_id=subscription_id))
    made = answer["made"]
    said = f"{made} allocation{'' if made == 1 else 's'} made for {answer['tenant_id']}"
    printing.say(answer, said, as_json=as_json)

"""`billing subscription`: who is on which plan; begun, changed, cancelled and resumed."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from models.rules import period
from models.store.tenant import UnknownTenant
from tasks.plan_changes import (
    cancel_subscription,
    change_subscription,
    reactivate_subscription,
    undo_change,
)
from tasks.subscribing import When
from tasks.subscription_list import get_subscription, list_subscriptions
from tasks.subscriptions import LONGEST_TRIAL, SubscriptionAnswer, set_subscription
from tasks.tenant_list import get_tenant
from worker.cli import kinds, printing
from worker.cli.invoice_named import AsOf
from worker.cli.invoice_named import at as _at
from worker.cli.printing import AsJson, Key

app = typer.Typer(help="Who is on which plan.", no_args_is_help=True)

Named = Annotated[
    UUID,
    typer.Argument(
        metavar="SUBSCRIPTION",
        help="Its id.",
        show_default=False,
        parser=kinds.named("subscription"),
    ),
]


@app.command("list")
def print_list(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose.", show_default=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """List a tenant's subscriptions, ended ones and those to come too."""
    printing.prepare()
    found = list_subscriptions(tenant_id=tenant)["subscriptions"]
    if as_json:
        printing.print_json(found)
    else:
        _print(found)


@app.command()
def show(
    named: Named,
    *,
    as_json: AsJson = False,
    as_of: AsOf = None,
) -> None:
    """Show a subscription, with the seats it had and will have."""
    printing.prepare()
    found = get_subscription(subscription_id=named, **_at(as_of))
    if as_json:
        printing.print_json(found)
        return
    _print([found])
    seats = Table("seats", "from")
    for one in found["seats"]:
        seats.add_row(one["quantity"], _instant(one["effective_at"]))
    printing.show(seats)


@app.command()
def start(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose.", show_default=False)],
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Its key.", show_default=False)],
    *,
    currency: Annotated[
        str | None,
        typer.Option(
            help="Of the prices to use.",
            metavar="CODE",
            show_default="the tenant's",
            parser=kinds.currency,
        ),
    ] = None,
    quantity: Annotated[
        Decimal | None,
        typer.Option(help="Seats.", metavar="NUMBER", show_default="1", parser=kinds.amount),
    ] = None,
    first: Annotated[
        dt.date | None,
        typer.Option(
            "--from",
            help="Its first day where the tenant is, or an instant; the whole day counts.",
            metavar="DAY",
            show_default="now",
            parser=kinds.day,
        ),
    ] = None,
    until: Annotated[
        dt.date | None,
        typer.Option(
            help="The day after its last one, or an instant.", metavar="DAY", parser=kinds.day
        ),
    ] = None,
    trial_days: Annotated[
        int | None, typer.Option(help="Days that are free.", min=1, max=LONGEST_TRIAL)
    ] = None,
    key: Key = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Put a tenant on a plan; one whom nobody introduced is introduced."""
    wanted: dict[str, Any] = {
        "currency": currency,
        "quantity": quantity,
        "trial_days": trial_days,
    }
    printing.prepare()
    wanted |= {"effective_at": _begin(first, tenant), "ended_at": _begin(until, tenant)}
    answer = set_subscription(
        tenant_id=tenant,
        plan_key=plan,
        idempotency_key=printing.key_or_new(key),
        **{name: value for name, value in wanted.items() if value is not None},
        **_at(as_of),
    )
    _say(answer, as_json=as_json)


@app.command()
def change(
    named: Named,
    *,
    key: Key = None,
    plan: Annotated[str | None, typer.Option(help="The new plan.", metavar="PLAN")] = None,
    quantity: Annotated[
        Decimal | None,
        typer.Option(help="Seats from then on.", metavar="NUMBER", parser=kinds.amount),
    ] = None,
    when: Annotated[When, typer.Option(help="When it takes effect.")] = When.now,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Put a tenant on another plan, or another number of seats."""
    wanted: dict[str, Any] = {"plan_key": plan, "quantity": quantity}
    printing.prepare()
    answer = change_subscription(
        subscription_id=named,
        idempotency_key=printing.key_or_new(key),
        when=when,
        **{name: value for name, value in wanted.items() if value is not None},
        **_at(as_of),
    )
    if as_json:
        printing.print_json(answer)
        return
    changed = [answer["replaced"], answer["subscription"]]
    _print([one for one in changed if one is not None])


@app.command()
def cancel(
    named: Named,
    *,
    key: Key = None,
    when: Annotated[When, typer.Option(help="When it ends.")] = When.period_end,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """End a subscription when its billing period does, or now."""
    printing.prepare()
    answer = cancel_subscription(
        subscription_id=named, idempotency_key=printing.key_or_new(key), when=when, **_at(as_of)
    )
    _say(answer, as_json=as_json)


@app.command()
def resume(named: Named, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Take back the end of a subscription that has not ended yet."""
    printing.prepare()
    answer = reactivate_subscription(subscription_id=named, **_at(as_of))
    _say(answer, as_json=as_json)


@app.command()
def undo(named: Named, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Take back a change of plan or seats that has not come yet."""
    printing.prepare()
    answer = undo_change(subscription_id=named, **_at(as_of))
    _say(answer, as_json=as_json)


def _say(answer: SubscriptionAnswer, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(answer)
    else:
        _print([answer])


def _print(found: Sequence[SubscriptionAnswer]) -> None:
    table = Table("subscription", "plan", "seats", "from", "until", "trial until", "next invoice")
    for one in found:
        instants = (one["effective_at"], one["ended_at"], one["trial_ends_at"])
        table.add_row(
            str(one["subscription_id"]),
            one["plan_key"],
            one["quantity"],
            *(_instant(at) for at in (*instants, one["next_invoice_at"])),
        )
    printing.show(table if found else "no subscription")


def _begin(day: dt.date | None, tenant_id: str) -> dt.datetime | None:
    """Return when a day begins where a tenant is: in UTC, for one whom nobody introduced."""
    if day is None or isinstance(day, dt.datetime):
        return day
    try:
        timezone = get_tenant(tenant_id=tenant_id)["timezone"]
    except UnknownTenant:
        timezone = "UTC"
    return period.local_midnight(day, period.zone(timezone))


def _instant(at: object) -> str:
    return printing.instant(at, otherwise="")

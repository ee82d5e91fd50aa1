"""Batches: dated lots of credit, and taking them back."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

import typer

from models.rules.states import CreditBatchState
from tasks.batch_list import get_batch, list_batches
from tasks.batches import revoke as revoke_batches
from tasks.credit_upkeep import Sweep, expire_batches, expire_reservations
from tasks.ledger import list_ledger
from worker.cli import credit_view, kinds, printing
from worker.cli.printing import Actor, AsJson, Key, Limit, Reason, Tenant, number

app = typer.Typer(help="Dated lots of credit.", no_args_is_help=True)

Source = Annotated[str | None, typer.Option(help="All that came from it.")]


_batch_id = kinds.named("batch")


@app.command("list")
def print_list(
    tenant: Tenant,
    *,
    product: Annotated[str | None, typer.Option(help="Of this product only.")] = None,
    state: Annotated[
        CreditBatchState | None, typer.Option(help="In this state only.", case_sensitive=False)
    ] = None,
    source: Annotated[str | None, typer.Option(help="From this source only.")] = None,
    usable: Annotated[bool, typer.Option("--usable", help="That can be spent now.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first."""
    printing.prepare()
    found = list_batches(
        tenant_id=tenant,
        product_key=product,
        state=state,
        source=source,
        usable=usable,
        limit=limit,
    )
    if as_json:
        printing.print_json(found["batches"])
        return
    table = credit_view.batches(found["batches"], printing.console())
    printing.print_table(table, found["batches"], found["next_cursor"], "batches")


@app.command()
def show(
    tenant: Tenant,
    batch_id: Annotated[UUID, typer.Argument(metavar="ID", help="Which batch.", parser=_batch_id)],
) -> None:
    """Print one with its newest ledger entries, as JSON."""
    printing.prepare()
    batch = get_batch(tenant_id=tenant, batch_id=batch_id)
    ledger = list_ledger(tenant_id=tenant, batch_id=batch_id, limit=100)["entries"]
    printing.print_json({**batch, "ledger": ledger})


@app.command()
def revoke(
    tenant: Tenant,
    batch_id: Annotated[
        UUID | None, typer.Argument(metavar="ID", help="One batch.", parser=_batch_id)
    ] = None,
    *,
    reason: Reason,
    source: Source = None,
    cause: Annotated[
        str | None,
        typer.Option(help="All that one call granted: its task and key.", metavar="TASK KEY"),
    ] = None,
    actor: Actor = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take back a batch, or all of a source or a cause, with what is left of them."""
    cause_type, cause_id = _cause(cause)
    printing.prepare()
    answer = revoke_batches(
        tenant_id=tenant,
        batch_id=batch_id,
        source=source,
        cause_type=cause_type,
        cause_id=cause_id,
        reason=reason,
        actor=printing.actor_or_user(actor),
        idempotency_key=printing.key_or_new(key),
    )
    if as_json:
        printing.print_json(answer)
        return
    for one in answer["batches"]:
        held = "" if one["held"] == "0" else f", {number(one['held'])} stay in holds"
        typer.echo(
            f"took back {number(one['amount'])} of {one['product_key']}{held}: balance "
            f"{number(one['balance'])}, batch {one['batch_id']}"
        )


@app.command()
def expire(*, as_json: AsJson = False) -> None:
    """Write off batches whose time is over, and give back holds, as the schedule does."""
    printing.prepare()
    batches, holds = _swept(expire_batches), _swept(expire_reservations)
    said = f"ended: batches {batches['expired']:,}, holds {holds['expired']:,}"
    busy = batches["passed_over"] + holds["passed_over"]
    if busy:
        said += f"; {busy:,} are in use, the schedule comes back to them"
    printing.say({"batches": batches, "holds": holds}, said, as_json=as_json)


def _swept(task: Callable[[], Sweep]) -> dict[str, int]:
    """Run a sweep until it has finished; return what all of its runs did."""
    total = {"expired": 0, "passed_over": 0}
    while True:
        done = task()
        total["expired"] += done["expired"]
        total["passed_over"] += done["passed_over"]
        if done["finished"]:
            return total


def _cause(given: str | None) -> tuple[str | None, str | None]:
    if given is None:
        return None, None
    task, _, key = given.partition(" ")
    if not key:
        raise typer.BadParameter(
            f"{given!r} must be a task and its key, such as 'billing.grant_offer order-7'",
            param_hint="--cause",
        )
    return task, key

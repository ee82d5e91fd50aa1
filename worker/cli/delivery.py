"""Deliveries: what went where, and sending it again."""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from models.rules.states import DeliveryState
from models.store import replaying
from tasks.delivery import skip_delivery
from tasks.delivery_list import LONGEST_PAGE, get_delivery, list_deliveries
from tasks.replays import replay_deliveries, replay_delivery
from worker.cli import delivery_view, kinds, printing
from worker.cli.printing import AsJson, Key, Limit

app = typer.Typer(help="What went where, and sending it again.", no_args_is_help=True)


class Replayable(StrEnum):
    """States of deliveries that can be sent again, and those that there are none of yet."""

    dead = "dead"
    pending = "pending"
    delivered = "delivered"
    missing = "missing"


DeliveryId = Annotated[int, typer.Argument(metavar="DELIVERY", help="Its number.", min=1)]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="To this tenant's endpoints.", show_default=False)
]
Endpoint = Annotated[
    UUID | None,
    typer.Option(
        help="To this endpoint.", metavar="ID", show_default=False, parser=kinds.named("endpoint")
    ),
]
Topic = Annotated[str | None, typer.Option(help="Of this type of event.", show_default=False)]
Since = Annotated[
    dt.datetime | None,
    typer.Option(
        help="Of events that happened then or later.", metavar="INSTANT", parser=kinds.instant
    ),
]
Until = Annotated[
    dt.datetime | None,
    typer.Option(help="Of events that happened before.", metavar="INSTANT", parser=kinds.instant),
]


@app.command("list")
def print_list(
    *,
    tenant: OfTenant = None,
    endpoint: Endpoint = None,
    state: Annotated[
        DeliveryState | None, typer.Option(help="In one state.", show_default=False)
    ] = None,
    topic: Topic = None,
    event: Annotated[str | None, typer.Option(help="Of this event, evt_….")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first."""
    wanted = {
        "tenant_id": tenant,
        "endpoint_id": endpoint,
        "state": state,
        "topic": topic,
        "event_id": event,
        "since": since,
        "until": until,
    }
    printing.prepare()
    found, cursor = _pages(wanted, limit)
    if as_json:
        printing.print_json(found)
        return
    printing.print_table(delivery_view.table(found), found, cursor, "deliveries")


@app.command()
def show(
    delivery_id: DeliveryId,
    *,
    tenant: OfTenant = None,
    body: Annotated[bool, typer.Option("--event", help="Print the event as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one with its attempts: status, time taken, and what the peer answered."""
    printing.prepare()
    found = get_delivery(delivery_id=delivery_id, tenant_id=tenant)
    if as_json:
        printing.print_json(found)
        return
    printing.show(delivery_view.details(found))
    printing.show(delivery_view.attempts(found["attempts"]) if found["attempts"] else "no attempts")
    if body:
        typer.echo(delivery_view.event(found))


@app.command()
def replay(
    delivery_id: Annotated[
        int | None, typer.Argument(metavar="DELIVERY", help="One.", min=1, show_default=False)
    ] = None,
    *,
    tenant: OfTenant = None,
    endpoint: Endpoint = None,
    everybody: Annotated[bool, typer.Option(help="To all endpoints there are.")] = False,
    since: Since = None,
    until: Until = None,
    state: Annotated[
        list[Replayable] | None,
        typer.Option(
            help="Which of them; several times. missing: asked for, and never given to it.",
            show_default="dead",
        ),
    ] = None,
    topic: Topic = None,
    most: Annotated[int, typer.Option(help="Of many, at most so many.", min=1)] = 100_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")] = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send one again; or, with --since, what is dead of an endpoint, a tenant or everybody."""
    if (delivery_id is None) == (since is None):
        raise typer.BadParameter("give either DELIVERY, or --since and to whom")
    if delivery_id is not None and (everybody or dry_run):
        raise typer.BadParameter("DELIVERY is one: there is nothing to choose or to count")
    printing.prepare()
    key = printing.key_or_new(key)
    if delivery_id is not None:
        _replay_one(delivery_id, tenant, key, as_json=as_json)
        return
    if not (endpoint or tenant or everybody):
        raise typer.BadParameter("say to whom: --endpoint, --tenant or --everybody")
    wanted = {
        "endpoint_id": endpoint,
        "tenant_id": tenant,
        "everybody": everybody,
        "since": since,
        "until": until,
        "states": [one.value for one in state or [Replayable.dead]],
        "topic": topic,
        "dry_run": dry_run,
    }
    counts: Counter[str] = sum(_replayed(wanted, most, key), Counter())
    if as_json:
        answer = {"replayed": counts.total(), "by_state": dict(counts), "dry_run": dry_run}
        printing.print_json(answer)
    else:
        typer.echo(delivery_view.replayed(counts, dry_run=dry_run))


@app.command()
def skip(
    delivery_id: DeliveryId,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept beside it.")],
    tenant: OfTenant = None,
    as_json: AsJson = False,
) -> None:
    """Give one up: it is never sent, and an ordered endpoint goes on behind it."""
    printing.prepare()
    answer = skip_delivery(delivery_id=delivery_id, reason=reason, tenant_id=tenant)
    if as_json:
        printing.print_json(answer)
    else:
        typer.echo(f"delivery {delivery_id} is {answer['state']}")


def _pages(wanted: dict[str, Any], limit: int) -> tuple[list[Any], str | None]:
    found: list[Any] = []
    cursor: str | None = None
    while True:
        most = min(LONGEST_PAGE, limit - len(found))
        page = list_deliveries(**wanted, cursor=cursor, limit=most)
        found += page["deliveries"]
        cursor = page["next_cursor"]
        if cursor is None or len(found) >= limit:
            return found, cursor


def _replay_one(delivery_id: int, tenant: str | None, key: str, *, as_json: bool) -> None:
    answer = replay_delivery(delivery_id=delivery_id, tenant_id=tenant, idempotency_key=key)
    if as_json:
        printing.print_json(answer)
    else:
        typer.echo(f"delivery {delivery_id} is {answer['state']}")


def _replayed(wanted: dict[str, Any], most: int, key: str) -> Iterator[Counter[str]]:
    """What each chunk had; every chunk has a key of its own, made of the command's."""
    cursor: str | None = None
    for number in itertools.count():
        chunk = replay_deliveries(
            **wanted,
            cursor=cursor,
            limit=min(most, replaying.MOST),
            idempotency_key=f"{key[:100]} chunk {number}",
        )
        yield Counter(chunk["by_state"])
        most -= chunk["replayed"]
        cursor = chunk["next_cursor"]
        if most <= 0 or cursor is None:
            return

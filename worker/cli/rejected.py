"""Messages that could not be taken: why, and what an operator can do about them."""

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from models import database
from models.rules.states import RejectedState
from models.store import rejected
from tasks import signing
from tasks.rejected import discard_rejected, replay_rejected
from worker.cli import kinds, payloads, printing, rejected_each, rejected_view

app = typer.Typer(help="Messages that could not be taken.", no_args_is_help=True)

Ids = Annotated[
    list[int] | None, typer.Argument(metavar="ID…", help="Those of the list.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All that are open and fit the conditions.")]
Task = Annotated[str | None, typer.Option(help="Of one task, such as billing.record_usage.")]
Tenant = Annotated[str | None, typer.Option(help="Of one tenant.")]
Code = Annotated[str | None, typer.Option(help="Of one cause, such as message.invalid.")]
Since = Annotated[
    dt.datetime | None,
    typer.Option(
        help="That came at this instant or later, first or again.",
        metavar="INSTANT",
        parser=kinds.instant,
    ),
]
Actor = Annotated[
    str | None, typer.Option(help="Who decides.", show_default="the user of the system")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@app.command("list")
def print_list(
    *,
    state: Annotated[RejectedState, typer.Option(help="Which ones.")] = RejectedState.open,
    task: Task = None,
    tenant: Tenant = None,
    code: Code = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List them, newest first."""
    wanted = _filter(state, task, tenant, code, since)
    printing.prepare()
    with database.transaction() as session:
        found = rejected.list_newest(session, wanted, limit=limit)
    if as_json:
        typer.echo(
            json.dumps([rejected_view.shown(row) for row in found], indent=2, ensure_ascii=False)
        )
        return
    printing.show(rejected_view.table(found) if found else f"no {state} rejected messages")


@app.command()
def show(
    rejected_message_id: Annotated[int, typer.Argument(metavar="ID", help="That of the list.")],
) -> None:
    """Print one as JSON, with the payload as it came."""
    printing.prepare()
    with database.transaction() as session:
        row = rejected.get(session, rejected_message_id)
    typer.echo(
        json.dumps(
            rejected_view.shown(row) | {"payload": row.payload}, indent=2, ensure_ascii=False
        )
    )


@app.command()
def replay(
    ids: Ids = None,
    *,
    everything: All = False,
    task: Task = None,
    tenant: Tenant = None,
    code: Code = None,
    since: Since = None,
    payload: Annotated[
        Path | None,
        typer.Option(
            help="Send this JSON object instead of what came; - is standard input. One ID only.",
            metavar="FILE",
        ),
    ] = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Mend each in $EDITOR before it is sent.")
    ] = False,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Send them again, as they came or mended. Exit status 1 if one is refused again.

    One that is refused again stays open. Usage without an instant keeps the one at which it first
    came. --all leaves out what nobody with a key has sent, unless --code asks for it.
    """
    chosen = ids or []
    conditions = _filter(RejectedState.open, task, tenant, code, since)
    _require_choice(chosen, everything, conditions)
    if payload is not None and (edit or len(chosen) != 1):
        raise typer.BadParameter("give it with one ID, and without --edit", param_hint="--payload")
    mended = None if payload is None else payloads.read(payload)
    who = printing.actor_or_user(actor)
    printing.prepare()

    if code is None:
        conditions = dataclasses.replace(conditions, but=signing.CODES)

    def send(found: int) -> dict[str, Any]:
        sent = _edited(found) if edit else mended
        return dict(replay_rejected(rejected_message_id=found, payload=sent, actor=who))

    rejected_each.each(chosen, conditions, send, as_json=as_json)


@app.command()
def discard(
    *,
    reason: Annotated[str, typer.Option(help="Why nobody wants them; it is kept.")],
    ids: Ids = None,
    everything: All = False,
    task: Task = None,
    tenant: Tenant = None,
    code: Code = None,
    since: Since = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Close them without sending them. They are kept, with who decided and why."""
    chosen = ids or []
    conditions = _filter(RejectedState.open, task, tenant, code, since)
    _require_choice(chosen, everything, conditions)
    who = printing.actor_or_user(actor)
    printing.prepare()

    def close(found: int) -> dict[str, Any]:
        return dict(discard_rejected(rejected_message_id=found, reason=reason, actor=who))

    rejected_each.each(chosen, conditions, close, as_json=as_json)


def _filter(
    state: RejectedState,
    task: str | None,
    tenant: str | None,
    code: str | None,
    since: dt.datetime | None,
) -> rejected.Filter:
    return rejected.Filter(
        state=state,
        task=task,
        tenant_id=tenant,
        code=code,
        since=since,
    )


def _require_choice(ids: Sequence[int], everything: bool, conditions: rejected.Filter) -> None:
    if bool(ids) == everything:
        raise typer.BadParameter("give either IDs or --all")
    if ids and conditions != rejected.Filter():
        raise typer.BadParameter("--task, --tenant, --code and --since go with --all")


def _edited(found: int) -> dict[str, Any]:
    with database.transaction() as session:
        payload = rejected.get(session, found).payload
    return payloads.edited(payload, f"rejected message {found}")

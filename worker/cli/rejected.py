"""Messages that could not be taken, and why."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models import database
from models.rules.states import RejectedState
from models.store import inbox
from worker import boot

WIDTH_ELSEWHERE = 240

app = typer.Typer(help="Messages that could not be taken.", no_args_is_help=True)


@app.command("list")
def print_list(
    state: Annotated[RejectedState, typer.Option(help="Which ones.")] = RejectedState.open,
    task: Annotated[str | None, typer.Option(help="Of one task.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
) -> None:
    """List them, newest first."""
    boot.prepare()
    with database.transaction() as session:
        found = inbox.list_rejected(session, state=state, task=task, limit=limit)
    table = Table("id")
    for heading in ("task", "tenant", "code"):
        table.add_column(heading, no_wrap=True)
    for heading in ("reason", "seen", "last seen"):
        table.add_column(heading)
    for row in found:
        reasons = "; ".join(f"{fault['field']}: {fault['reason']}" for fault in row.errors)
        table.add_row(
            str(row.id),
            row.task,
            row.tenant_id or "",
            row.code,
            reasons,
            str(row.seen_count),
            f"{row.last_seen_at:%Y-%m-%d %H:%M:%SZ}",
        )
    # A file or a pipe is as wide as it needs to be.
    width = None if sys.stdout.isatty() else WIDTH_ELSEWHERE
    console = Console(markup=False, highlight=False, width=width)
    console.print(table if found else f"no {state} rejected messages")


@app.command()
def show(rejected_message_id: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Print one as JSON, with the payload as it came."""
    boot.prepare()
    with database.transaction() as session:
        row = inbox.get_rejected(session, rejected_message_id)
    shown = {
        "id": row.id,
        "task": row.task,
        "tenant_id": row.tenant_id,
        "code": row.code,
        "errors": row.errors,
        "state": row.state,
        "message_id": row.message_id,
        "seen_count": row.seen_count,
        "received_at": row.received_at.isoformat(),
        "last_seen_at": row.last_seen_at.isoformat(),
        "payload": row.payload,
    }
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))

"""One process each: what a service manager or a container runs."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models import database, migrations
from tasks.queues import Queue
from worker import boot, programs, settings, stack


def worker(
    queues: Annotated[
        str, typer.Option(help="What it consumes, separated by commas.", metavar="NAMES")
    ] = ",".join(Queue),
    concurrency: Annotated[
        int | None, typer.Option(help="Processes of its pool.", show_default="one a CPU", min=1)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What Flower calls it.", show_default="its queues")
    ] = None,
) -> None:
    """Run a worker. SIGTERM lets it finish what it has begun, for a bounded time."""
    chosen = [_queue(word.strip()) for word in queues.split(",")]
    boot.prepare()
    programs.worker(queues=chosen, concurrency=concurrency, name=name).become()


def beat(
    state: Annotated[
        Path | None,
        typer.Option(help="The file that keeps what it has rung.", show_default="it forgets"),
    ] = None,
) -> None:
    """Run beat, the timetable's bell. Two of them ring twice, which is harmless.

    With --state a bell that fell due while none ran, such as a nightly check's, is rung at the
    start.
    """
    file = _kept(state)
    settings.load().broker()
    programs.beat(state=file).become()


def flower(
    address: Annotated[str, typer.Option(help="Where it listens.")] = stack.LOOPBACK,
    port: Annotated[int, typer.Option(help="Its port.", min=1, max=65_535)] = 5555,
    state: Annotated[
        Path | None,
        typer.Option(help="The file that keeps what it has seen.", show_default="it forgets"),
    ] = None,
) -> None:
    """Run Flower. Without FLOWER_BASIC_AUTH, user:password, it listens on loopback alone."""
    file = _kept(state)
    chosen = settings.load()
    _require_password(chosen, address)
    chosen.broker()
    password = chosen.flower_basic_auth
    given = {} if password is None else {"FLOWER_BASIC_AUTH": password.get_secret_value()}
    flower = programs.flower(address=address, port=port, state=file)
    dataclasses.replace(flower, environment={**flower.environment, **given}).become()


def migrate(
    *,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a database that is not up yet.", min=0)
    ] = boot.PATIENCE_SECONDS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the statements instead of running them.")
    ] = False,
    lock_timeout: Annotated[
        float,
        typer.Option(help="Seconds to wait for a table that somebody uses, each try.", min=0.1),
    ] = migrations.USUAL.lock_timeout_ms / 1000,
    tries: Annotated[
        int, typer.Option(help="How often to try before giving up.", min=1, max=1_000)
    ] = migrations.USUAL.tries,
) -> None:
    """Bring the database to the revision of this program. Run it before new workers start.

    Workers of the release before go on meanwhile, unless a migration says otherwise first. Who is
    in the way is named; what was done before stays done, and the same command goes on from there.
    """
    boot.prepare()
    if dry_run or sql:
        boot.wait_for_database(wait)
        _print_plan(as_sql=sql)
    else:
        said = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        patience = migrations.Patience(lock_timeout_ms=round(lock_timeout * 1000), tries=tries)
        before, after = stack.migrate(wait=wait, patience=patience, tell=said.print)
        moved = f"at {after} already" if before == after else f"from {before or 'empty'} to {after}"
        Console(highlight=False).print(f"database: {moved}")


def _kept(state: Path | None) -> Path | None:
    """The file that keeps something, wherever the process will look at it from."""
    if state is None:
        return None
    if not os.access(state.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(
            f"'{state}' must be a file in a folder that is there and can be written to",
            param_hint="--state",
        )
    return state.resolve()


def _print_plan(*, as_sql: bool) -> None:
    """What `migrate` would do: a line for each migration, or its statements."""
    try:
        steps = migrations.pending(database.engine())
    except LookupError as error:
        raise boot.DatabaseAhead(str(error)) from None
    if as_sql:
        typer.echo(migrations.sql(migrations.current(database.engine())) if steps else "")
        return
    for step in steps:
        typer.echo(f"{step.revision}  {step.says}")
        if step.breaks_older:
            typer.echo(f"      stop the workers of the release before first: {step.breaks_older}")
        if step.holds_locks:
            typer.echo(f"      others wait for a table meanwhile: {step.holds_locks}")
    typer.echo(f"{len(steps)} to do" if steps else f"database: at {migrations.head()} already")


def _require_password(chosen: settings.Settings, address: str) -> None:
    if chosen.flower_basic_auth is None and not settings.is_loopback(address):
        raise settings.InvalidSettings(
            f"FLOWER_BASIC_AUTH is not set and {address} is not loopback: whoever reaches it could "
            "read every task; set it to user:password"
        )


def _queue(name: str) -> Queue:
    try:
        return Queue(name)
    except ValueError:
        known = ", ".join(Queue)
        raise typer.BadParameter(f"no queue is named {name!r}; there are {known}") from None

"""One process each: what a service manager or a container runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models import database
from tasks.queues import Queue
from worker import boot, programs, settings, stack


def worker(
    queues: Annotated[
        str, typer.Option(help="What it consumes, separated by commas.", metavar="NAMES")
    ] = ",".join(Queue),
    concurrency: Annotated[
        int | None, typer.Option(help="Processes of its pool. [default: one a CPU]", min=1)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What Flower calls it. [default: its queues]")
    ] = None,
) -> None:
    """Run a worker. SIGTERM lets it finish what it has begun, for a bounded time."""
    chosen = [_queue(word.strip()) for word in queues.split(",")]
    boot.prepare()
    programs.worker(queues=chosen, concurrency=concurrency, name=name).become()


def beat() -> None:
    """Run beat, the timetable's bell. Two of them ring twice, which is harmless."""
    settings.load().broker()
    programs.beat().become()


def flower(
    address: Annotated[str, typer.Option(help="Where it listens.")] = stack.LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 5555,
    state: Annotated[
        Path | None,
        typer.Option(help="The file that keeps what it has seen. [default: it forgets]"),
    ] = None,
) -> None:
    """Run Flower. Without FLOWER_BASIC_AUTH, user:password, it listens on loopback alone."""
    chosen = settings.load()
    _require_password(chosen, address)
    chosen.broker()
    programs.flower(address=address, port=port, state=state).become()


def migrate(
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a database that is not up yet.", min=0)
    ] = boot.PATIENCE_SECONDS,
) -> None:
    """Bring the database to the revision of this program. Run it before new workers start."""
    boot.prepare()
    before, after = stack.migrate(wait=wait)
    database.dispose()
    said = f"at {after} already" if before == after else f"from {before or 'empty'} to {after}"
    Console(highlight=False).print(f"database: {said}")


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

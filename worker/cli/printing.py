"""What commands about credit share: getting ready, figures and instants, JSON."""

import dataclasses
import datetime as dt
import getpass
import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from models.rules import ids
from tasks import config
from worker import boot, ledger_log, logs
from worker.cli import fitting

WIDTH_ELSEWHERE: Final = 240
"""Characters of a line where there is no terminal to ask."""

WIDE: Final = 115
WIDER: Final = 140
"""Columns of a terminal from which on there is room for what is good to know."""

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Limit = Annotated[int, typer.Option(help="How many at most.", min=1, max=1_000)]
Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Whose.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept, and not sent to subscribers.")]
Actor = Annotated[
    str | None, typer.Option(help="Who decides.", show_default="the user of the system")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="An idempotency key: the same command again with the same key changes nothing.",
        show_default="a new one",
    ),
]


def prepare() -> None:
    """Get ready to call tasks in this process.

    No broker is needed: the sender finds what is to be told by its timetable, in seconds. What a
    command did it says itself: a terminal gets no log lines beside, unless BILLING_LOG_LEVEL asks
    for them.
    """
    chosen = boot.prepare()
    if "log_level" not in chosen.model_fields_set:
        logs.spare_terminals()
    ledger_log.spare_terminals()
    config.use(dataclasses.replace(config.current(), kick=False))


def key_or_new(given: str | None) -> str:
    """Return the idempotency key of a command."""
    return given or f"cli-{ids.uuid7(dt.datetime.now(dt.UTC)).hex}"


def actor_or_user(given: str | None) -> str:
    """Return who decides: who was named, or the user of the system."""
    try:
        return given or getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return "operator"


def console() -> Console:
    """Return where to print: as wide as the terminal, or as a file needs."""
    width = None if sys.stdout.isatty() else WIDTH_ELSEWHERE
    return Console(markup=False, highlight=False, width=width)


def show(what: Table | str) -> None:
    """Print a sentence, or a table so that nothing is cut: as records where it is too wide."""
    screen = console()
    if isinstance(what, str) or not what.show_header:
        screen.print(what)
        return
    if not sys.stdout.isatty():
        screen.width = max(screen.width, fitting.least(what))
    screen.print(fitting.fitted(what, screen.width))


def print_table(table: Table, found: Sequence[object], next_cursor: str | None, noun: str) -> None:
    """Print a table of what was found, or that there is none, and whether there are more."""
    if not found:
        typer.echo(f"no {noun}")
        return
    show(table)
    if next_cursor is not None:
        typer.echo(f"there are more {noun}; see them with --limit")


def print_json(answer: Any) -> None:
    """Print an answer as JSON."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def say(answer: Any, said: str, *, as_json: bool) -> None:
    """Print what came of a command: a sentence, or the answer as JSON."""
    if as_json:
        print_json(answer)
    else:
        typer.echo(said)


def refuse(answer: Any, said: str, *, as_json: bool) -> NoReturn:
    """Print why a command did nothing, and end with exit status 1."""
    say(answer, said, as_json=as_json)
    raise typer.Exit(1)


def number(text: str | None) -> str:
    """Return a decimal of an answer for people, as "1,250.5"; nothing for None."""
    return "" if text is None else f"{Decimal(text):,f}"


def instant(text: Any, *, otherwise: str = "never") -> str:
    """Return an instant of an answer for people, in UTC to the minute."""
    return otherwise if text is None else f"{utc(text):%Y-%m-%d %H:%MZ}"


def second(text: Any, *, otherwise: str = "never") -> str:
    """Return an instant of an answer for people, in UTC to the second."""
    return otherwise if text is None else f"{utc(text):%Y-%m-%d %H:%M:%SZ}"


def until(text: Any, *, now: dt.datetime) -> str:
    """Return how long it is until an instant of an answer, as "in 12 days"; nothing for None."""
    if text is None:
        return ""
    left = utc(text) - now
    if left <= dt.timedelta():
        return "over"
    for unit, size in (("day", dt.timedelta(days=1)), ("hour", dt.timedelta(hours=1))):
        if left >= 2 * size:
            return f"in {left // size} {unit}s"
    return f"in {left // dt.timedelta(minutes=1)} min"


def utc(text: Any) -> dt.datetime:
    """Return an instant of an answer, which is text in its JSON, in UTC."""
    at = text if isinstance(text, dt.datetime) else dt.datetime.fromisoformat(text)
    # An answer to what was just asked for has the zone that it was asked in.
    return at.astimezone(dt.UTC)

"""One screen of the whole system, once or again and again."""

import datetime as dt
import json
import sys
import time
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from worker import overview
from worker.celery import app as celery_app
from worker.cli import printing, status_view
from worker.overview import Look

ASKING: Final = "asking workers and servers …"
"""On the screen until the first look has ended."""

MOST_LOOKS: Final = 100_000
"""With which even a terminal that somebody forgot comes to its end."""


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=1, max=3600)] = 5,
    times: Annotated[
        int, typer.Option(help="How many looks, with --watch.", min=1, max=MOST_LOOKS)
    ] = MOST_LOOKS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each look as a line of JSON.")
    ] = False,
) -> None:
    """Show workers, queues, backlogs, deliveries, invoices, rates and findings on one screen.

    Each look takes some two seconds, because workers are asked. Exit status 0 whatever it shows:
    what judges is `billing doctor`.
    """
    printing.prepare()
    try:
        if watch:
            _watch(times, every, as_json=as_json)
        else:
            first = _look(None)
            _show(_look(first), as_json=as_json)
    except KeyboardInterrupt:
        pass  # how one stops watching


def _watch(times: int, every: float, *, as_json: bool) -> None:
    look: Look | None = None
    if as_json or not sys.stdout.isatty():
        for number in range(times):
            if number:
                time.sleep(every)
            look = _look(look)
            _show(look, as_json=as_json)
        return
    console = Console(highlight=False)
    try:
        with Live(ASKING, console=console, screen=True, auto_refresh=False) as live:
            for number in range(times):
                if number:
                    time.sleep(every)
                look = _look(look)
                live.update(status_view.screen(look), refresh=True)
    finally:
        # What was seen last stays in the terminal when the screen has gone.
        if look is not None:
            console.print(status_view.screen(look))


def _look(before: Look | None) -> Look:
    return overview.take(celery_app, now=lambda: dt.datetime.now(dt.UTC), before=before)


def _show(look: Look, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(look.as_json()))
    else:
        printing.console().print(status_view.screen(look))

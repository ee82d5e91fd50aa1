"""`billing demo`."""

from typing import Annotated

import typer
from rich.console import Console

from worker import settings
from worker.demo import run, stage

WIDTH = 110
"""Characters of a line where there is no terminal to ask."""


def demo(
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Play a month of billing through real processes and check every figure.

    Each run starts from an empty database of its own; exit status 1 means that something does not
    agree.
    """
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    try:
        agreed = run.run(settings.load().demo_folder, console, json_line=json)
    except KeyboardInterrupt:
        console.print("interrupted; everything it started is gone")
        raise typer.Exit(130) from None
    except stage.SubscriberFailed as error:
        console.print(f"billing: {error}")
        raise typer.Exit(2) from None
    if not agreed:
        raise typer.Exit(1)

"""How far a long command is: a bar with rate and time left, or a line now and then in a pipe."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_SECONDS: Final = 10.0
"""Between two lines where there is no terminal."""

Show = Callable[[int, int], None]
"""Takes how much of the whole is done, and how many items that were."""


@contextlib.contextmanager
def shown(label: str, *, total: int | None, noun: str) -> Iterator[Show]:
    """Show progress on standard error for as long as the block lasts.

    Args:
        total: the whole, in the unit of what is done; None if nobody knows.
        noun: what is counted, in the plural.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(console, total, noun)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[items]:,} " + noun),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, items=0, rate=0)
        began = time.monotonic()

        def show(done: int, items: int) -> None:
            rate = items / max(time.monotonic() - began, 1e-6)
            progress.update(task, completed=done, items=items, rate=rate)

        yield show


def _lines(console: Console, total: int | None, noun: str) -> Show:
    began = last = time.monotonic()

    def show(done: int, items: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_SECONDS:
            return
        last = now
        rate = items / (now - began)
        left = ""
        if total and done:
            seconds = max(total - done, 0) / done * (now - began)
            left = f", {done / total:.0%}, {seconds:,.0f} s left"
        console.print(f"{items:,} {noun}, {rate:,.0f}/s{left}", markup=False, soft_wrap=True)

    return show

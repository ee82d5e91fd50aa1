"""The demo from start to end."""

import dataclasses
import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models.rules.states import DeliveryState
from worker.demo import checks, play, report, scenario, stage
from worker.demo.page import render
from worker.demo.stage import Subscriber

LAST_DELIVERY_SECONDS = 60.0
"""How long to wait for the next webhook to arrive once the month is closed."""

POLL_SECONDS = 0.1


def run(folder: Path, console: Console, *, json_line: bool) -> bool:
    """Play the demo on an empty database in `folder`; tell whether everything agreed.

    Args:
        folder: where servers keep their data; what an earlier run left there is removed.
        console: where people read what happens.
        json_line: whether the last line is the outcome as one JSON object.
    """
    begun = time.monotonic()
    story = scenario.build(dt.datetime.now(dt.UTC).date())
    console.print(
        f"[bold]A month of billing[/]: {len(story.sent):,} usage events of {len(scenario.TENANTS)} "
        f"companies in {len({tenant.timezone for tenant in scenario.TENANTS})} time zones, "
        f"{story.month:%B %Y}.",
        highlight=False,
    )
    with stage.interruptible():
        outcome = _play(folder, story, console, begun)
    report.show(console, outcome)
    for words, name in (
        ("The month as plots", render.NAME),
        ("What the processes said", stage.LOG),
    ):
        console.print(f"{words}: {folder / name}", highlight=False, soft_wrap=True)
    if json_line:
        console.print(report.as_json(outcome), soft_wrap=True, markup=False, highlight=False)
    return not outcome.faults


def _play(folder: Path, story: scenario.Scenario, console: Console, begun: float) -> report.Outcome:
    console.print("Starting PostgreSQL, Redis, workers, beat and a subscriber …")
    with stage.set_up(folder) as subscriber:
        play.open_accounts(story, subscriber)
        with _Progress(console, story) as said:
            played = play.play(story, said)
        console.print("Waiting for the last webhooks …")
        _wait_for_deliveries()
        outcome = _outcome(story, played, subscriber, begun)
        render.write(folder, story, outcome)
        return outcome


class _Progress:
    """A bar in a terminal, a line a step elsewhere."""

    def __init__(self, console: Console, story: scenario.Scenario) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("days", total=len(story.days))

    def __enter__(self) -> Callable[[str], None]:
        self._bar.start()
        return self._say

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False)
        self._bar.advance(self._task)


def _wait_for_deliveries() -> None:
    """Return when all have arrived, or none has for a while: a busy machine takes its time."""
    arrived, deadline = -1, 0.0
    while not checks.is_everything_sent():
        before, arrived = arrived, checks.deliveries().get(DeliveryState.delivered, 0)
        if arrived != before:
            deadline = time.monotonic() + LAST_DELIVERY_SECONDS
        elif time.monotonic() >= deadline:
            return
        time.sleep(POLL_SECONDS)


def _outcome(
    story: scenario.Scenario, played: play.Played, subscriber: Subscriber, begun: float
) -> report.Outcome:
    outcome = report.Outcome(
        verdicts=dict(played.verdicts),
        totals=checks.totals(story),
        invoices=checks.invoices_of(story),
        credit=played.balances,
        expired=played.expired,
        deliveries=checks.deliveries().get(DeliveryState.delivered, 0),
        retried=checks.retried(),
        subscriber=subscriber.report(),
        ingest_seconds=played.ingest_seconds,
        seconds=time.monotonic() - begun,
        faults=(),
    )
    return dataclasses.replace(outcome, faults=tuple(checks.faults(story, outcome)))

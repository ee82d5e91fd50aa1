"""Is everything there and well?"""

import datetime as dt
import json
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from worker.celery import app as celery_app
from worker.health import examine
from worker.health.finding import Area, Finding, Verdict

STYLES = {Verdict.ok: "green", Verdict.warn: "yellow", Verdict.fail: "bold red"}


def doctor(
    *,
    only: Annotated[
        list[Area] | None,
        typer.Option(help="Look at this alone; repeat it for more.", show_default="everything"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for failures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False,
) -> None:
    """Look at settings, keys, database, broker, workers, backlogs and nightly checks.

    Each finding says what to do. Exit status 0: nothing fails, warnings or not; 1: something fails
    (or, with --strict, warns); 2: the command itself was called in a wrong way. It changes nothing,
    and takes some seconds, because workers are asked. For a health check of one container, such as
    `billing doctor --only database --only broker`, which asks none.
    """
    areas = frozenset(only or Area)
    findings = list(examine.examine(celery_app, now=lambda: dt.datetime.now(dt.UTC), areas=areas))
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    else:
        _print(findings)
    bad = {Verdict.fail, Verdict.warn} if strict else {Verdict.fail}
    if any(finding.verdict in bad for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        style = STYLES[finding.verdict]
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        console.print(
            f"[{style}]{finding.verdict:<4}[/] {escape(finding.subject):<20} "
            f"{escape(finding.detail + remedy)}"
        )
    counts = Counter(finding.verdict for finding in findings)
    console.print(f"{counts[Verdict.fail]} failing, {counts[Verdict.warn]} to look at")

"""Is everything there and well?"""

import datetime as dt
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from models import database
from worker import health
from worker.celery import app as celery_app

STYLES = {
    health.Verdict.ok: "green",
    health.Verdict.warn: "yellow",
    health.Verdict.fail: "bold red",
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False,
) -> None:
    """Look at database, broker, workers and beat. Exit status 1 if something fails."""
    try:
        findings = list(health.examine(celery_app, now=lambda: dt.datetime.now(dt.UTC)))
    finally:
        database.dispose()
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.verdict is health.Verdict.fail for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[health.Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        style = STYLES[finding.verdict]
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        console.print(
            f"[{style}]{finding.verdict:<4}[/] {escape(finding.subject):<20} "
            f"{escape(finding.detail + remedy)}"
        )

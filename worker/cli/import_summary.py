"""What is said at the end of an import."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console

from worker.imports import counting


@dataclasses.dataclass(slots=True)
class Ended:
    """How an import ended, and how long it took. `reason` says why it did not come to its end."""

    tally: counting.Tally
    status: int = 0
    seconds: float = 0
    reason: str | None = None


def show(ended: Ended, files: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Tell people, or a program, what became of an import."""
    if as_json:
        typer.echo(json.dumps(_as_json(ended, files, dry_run=dry_run), indent=2))
    elif ended.tally.rows or ended.reason is None:
        _print_lines(ended, dry_run=dry_run)
    if ended.reason is not None:
        again = "; run it again: what is stored counts once" if ended.tally.events else ""
        typer.echo(f"billing: {ended.reason}{again}", err=True)


def _as_json(ended: Ended, files: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    counted = dataclasses.asdict(ended.tally)
    counted.pop("taken")
    return {
        "files": list(files),
        "dry_run": dry_run,
        **counted,
        "seconds": round(ended.seconds, 3),
        "stopped_by": ended.reason,
    }


def _print_lines(ended: Ended, *, dry_run: bool) -> None:
    tally, say = ended.tally, Console(markup=False, highlight=False, soft_wrap=True).print
    rate = tally.events / ended.seconds if ended.seconds else 0
    say(
        f"{tally.rows:,} rows, {tally.events:,} events in {ended.seconds:,.1f} s "
        f"({rate:,.0f} a second)" + (", nothing stored: a dry run" if dry_run else "")
    )
    counts = {
        "accepted": tally.accepted,
        "duplicate": tally.duplicate,
        "conflict": tally.conflict,
        "rejected": tally.rejected,
    }
    if tally.skipped:
        counts["empty, left out"] = tally.skipped
    say("  ".join(f"{name} {count:,}" for name, count in counts.items()))
    for each in tally.reasons:
        about = f"{each.field}: " if each.field else ""
        say(f"{each.file}:{each.line}: {each.verdict}: {about}{each.reason}")
    more = tally.refused - len(tally.reasons)
    if more > 0:
        say(f"… and {more:,} more")
    if any(each.rejected_message_id for each in tally.reasons):
        say("events that were refused are kept; `billing rejected list` shows them")

"""What an operator decides of refused messages, carried out one after another."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import typer

from models import database
from models.rules.refusal import Refusal
from models.rules.states import RejectedState
from models.store import rejected
from worker.cli import rejected_view

PAGE: Final = 1_000
"""Ids that --all reads at a time."""


def each(
    ids: Sequence[int],
    conditions: rejected.Filter,
    act: Callable[[int], dict[str, Any]],
    *,
    as_json: bool,
) -> None:
    """Do it to each in a transaction of its own, and end with status 1 if one is not closed."""
    ends: Counter[str] = Counter()
    for found in ids or _all(conditions):
        answer = _answer(found, act)
        ends["refused in part" if _refused_in_part(answer) else answer["state"]] += 1
        typer.echo(json.dumps(answer) if as_json else _line(answer))
    closed = ends[RejectedState.replayed] + ends[RejectedState.discarded]
    if not as_json and not ends:
        typer.echo("no open rejected message fits")
    elif not as_json and ends.total() > 1:
        said = ", ".join(f"{count:,} {state}" for state, count in ends.items())
        typer.echo(f"in all: {said}")
    if closed < ends.total():
        raise typer.Exit(1)


def _answer(found: int, act: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    try:
        return act(found)
    except Refusal as refusal:
        errors = [{"field": refusal.field, "reason": refusal.message}]
        return {
            "rejected_message_id": found,
            "state": "refused",
            "code": refusal.code,
            "errors": errors,
        }


def _refused_in_part(answer: dict[str, Any]) -> bool:
    """Whether of many events some were refused again, which are open messages of their own."""
    of_task = answer.get("answer")
    return isinstance(of_task, dict) and bool(of_task.get("refused"))


def _line(answer: dict[str, Any]) -> str:
    reasons = rejected_view.reasons(answer.get("errors") or [])
    said = f"message {answer['rejected_message_id']} {_STAYS.get(answer['state'], answer['state'])}"
    return said + (reasons and f": {reasons}")


_STAYS: Final = {RejectedState.open: "was refused again and stays open"}


def _all(conditions: rejected.Filter) -> Iterator[int]:
    """The ids of all that fit when it begins: what is refused anew meanwhile is another day's."""
    with database.transaction() as session:
        until = rejected.newest_id(session)
    after = 0
    while True:
        with database.transaction() as session:
            page = rejected.list_ids(session, conditions, after=after, until=until, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]

"""What a command leaves to be written when it ends, in the statement that keeps its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from models import hot

_LEFT = "left_for_the_end"


@dataclass(frozen=True, slots=True)
class Part:
    """Common table expressions that write something, and their parameters.

    Their names are used once in a command's last statement.
    """

    expressions: str
    parameters: Mapping[str, Any]


def gather(session: Session) -> None:
    """Let parts of this transaction wait from now on for who has a statement for them.

    That one calls `taken`.
    """
    session.info.setdefault(_LEFT, ())


def gathers(session: Session) -> bool:
    """Tell whether somebody will call `taken` in this transaction."""
    return _LEFT in session.info


def leave(session: Session, part: Part) -> None:
    """Let a part wait: nothing else of the transaction may read or write what it writes."""
    # A new tuple: a savepoint that is undone goes back to the one there was.
    session.info[_LEFT] = (*session.info[_LEFT], part)


def taken(session: Session) -> Sequence[Part]:
    """Return what has been left, and gather no more."""
    parts: Sequence[Part] = session.info.pop(_LEFT, ())
    return parts


def write(session: Session, parts: Sequence[Part], last: Part) -> list[tuple[Any, ...]]:
    """Write parts in one statement, and return the rows of `last`, with which it ends."""
    parameters: dict[str, Any] = {}
    for part in (*parts, last):
        parameters.update(part.parameters)
    statement = _statement(last.expressions, *(part.expressions for part in parts))
    return hot.execute(session, statement, parameters)


@cache
def _statement(last: str, *expressions: str) -> str:
    beginning = f"WITH {', '.join(expressions)}" if expressions else ""
    return hot.statement(f"{beginning} {last}")

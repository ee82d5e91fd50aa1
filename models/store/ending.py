"""What goes with a command's first and last statement, which claim its key and keep its answer.

What it is sure to read first is found as its key is claimed, what it leaves for the end is written
with its answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from models import hot

_LEFT = "left_for_the_end"
_FOUND = "found_at_the_beginning"


@dataclass(frozen=True, slots=True)
class Part:
    """Something of a statement that somebody else runs, and its parameters.

    To be read first: a query of `owner`, which has the tenant's id if the command names one, and of
    rows while the key is `claimed`. To be written last: common table expressions, whose names are
    used once.
    """

    expressions: str
    parameters: Mapping[str, Any]


def keep_found(session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep what a command's first statement has read, until somebody asks."""
    session.info[_FOUND] = rows


def found(session: Session) -> Sequence[tuple[Any, ...]]:
    """Return what a command's first statement has read; nothing if that was asked before."""
    rows: Sequence[tuple[Any, ...]] = session.info.pop(_FOUND, ())
    return rows


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


def leave_or_write(session: Session, part: Part) -> None:
    """Let a part wait if somebody will take it, as `leave` does; else write it now."""
    if gathers(session):
        leave(session, part)
    else:
        write(session, [part], Part("SELECT 1", {}))


def taken(session: Session) -> Sequence[Part]:
    """Return what has been left, and gather no more."""
    parts: Sequence[Part] = session.info.pop(_LEFT, ())
    return parts


def write(session: Session, parts: Sequence[Part], last: Part) -> list[tuple[Any, ...]]:
    """Write parts in one statement, and return the rows of `last`, with which it ends."""
    return hot.execute(session, *_made(parts, last))


def leave_to_commit(session: Session, parts: Sequence[Part], last: Part) -> None:
    """Have parts written as the transaction commits: nothing else may be asked of it.

    The statement and the commit are one message to the server.
    """
    hot.leave_last(session, *_made(parts, last))


def _made(parts: Sequence[Part], last: Part) -> tuple[hot.Statement, dict[str, Any]]:
    parameters: dict[str, Any] = {}
    for part in (*parts, last):
        parameters.update(part.parameters)
    return _statement(last.expressions, *(part.expressions for part in parts)), parameters


@cache
def _statement(last: str, *expressions: str) -> hot.Statement:
    beginning = f"WITH {', '.join(expressions)}" if expressions else ""
    return hot.statement(f"{beginning} {last}")

"""Who is told of each statement that is run: by the name of what runs it, never with a value.

A statement here has its values beside it, not in it: its text says what is done, not to whom.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, event

STORE: Final = "models.store."

DEEPEST: Final = 40
"""Frames between a function of the store and its statement, at most."""

_UNDER_WAY: Final = "statements"

Ended = Callable[[str | None], None]
"""Told when a statement has ended, with what went wrong in a word, or None."""

Begun = Callable[[str, str], Ended | None]
"""Told the name and the text of a statement that begins; None wants to hear no more of it."""

_begun: Begun | None = None


def tell(begun: Begun | None) -> None:
    """Say who is told, from the next engine on; nobody, by None."""
    global _begun  # noqa: PLW0603 (one listener a process)
    _begun = begun


def watch(engine: Engine) -> None:
    """Tell of an engine's statements, if there is somebody to tell; else it costs nothing."""
    if _begun is None:
        return
    event.listen(engine, "before_cursor_execute", _before)
    event.listen(engine, "after_cursor_execute", _after)
    event.listen(engine, "handle_error", _failed)


def _before(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    ended = None if _begun is None else _begun(_name(), statement)
    connection.info.setdefault(_UNDER_WAY, []).append(ended)


def _after(connection: Any, *_: Any) -> None:
    _end(connection, None)


def _failed(context: Any) -> None:
    if context.connection is not None:
        error = context.original_exception
        _end(context.connection, getattr(error, "sqlstate", None) or type(error).__name__)


def _end(connection: Any, error: str | None) -> None:
    under_way = connection.info.get(_UNDER_WAY)
    ended = under_way.pop() if under_way else None
    if ended is not None:
        ended(error)


def _name() -> str:
    """Return which function of the store runs it, as `outbox.add`."""
    frame = sys._getframe(1)  # noqa: SLF001 (the one way to see who calls)
    for _ in range(DEEPEST):
        module = frame.f_globals.get("__name__", "")
        if module.startswith(STORE):
            return f"{module.removeprefix(STORE)}.{frame.f_code.co_name}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "statement"

"""What an error of the database may say: which rule was broken, and nothing of the row."""

import re

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

DATA_EXCEPTION = "22"
"""The class of SQLSTATEs whose very message quotes the value that was refused."""

QUOTED = re.compile('".*"', re.DOTALL)


def keep(engine: Engine) -> None:
    """Let no error of an engine quote values: not in its text, its cause or its traceback.

    An error's text goes to logs, to whoever waits for a task's answer, and to Flower; what a
    customer sent us does not. What PostgreSQL says of a row stands in DETAIL and CONTEXT, which
    psycopg makes part of the text. `error.orig.diag` has all of it still, for code that decides.
    """
    event.listen(engine, "handle_error", _leave_out_values)


def _leave_out_values(context: ExceptionContext) -> BaseException | None:
    original = context.original_exception
    if isinstance(original, UnicodeError):
        # Its arguments are the whole text, and an answer of Celery's holds an error's arguments.
        return ValueError("a text can not be written as UTF-8")
    diagnosis = getattr(original, "diag", None)
    if diagnosis is None or diagnosis.message_primary is None:
        return None  # not of the server: psycopg's own messages and lost connections quote nothing
    said = str(original)
    harmless = _without_values(diagnosis.message_primary, diagnosis.sqlstate or "")
    original.args = (harmless,)
    if (shown := context.sqlalchemy_exception) is not None:
        shown.args = tuple(str(part).replace(said, harmless) for part in shown.args)
    return None


def _without_values(message: str, sqlstate: str) -> str:
    return QUOTED.sub('"…"', message) if sqlstate.startswith(DATA_EXCEPTION) else message

"""Whether a pooled connection is still there: seen on its socket, without asking the server."""

import selectors
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError


def watch(engine: Engine) -> None:
    """Have the engine's pool replace connections that ended while they lay idle.

    A question to the server before each transaction would take as long as one of its statements.
    One that goes away only now, or without a word, fails the transaction, as in the middle of it,
    and `database.is_unreachable` says so: a task's transaction runs again.
    """
    event.listen(engine, "checkout", _refuse_ended)


def _refuse_ended(connection: Any, *_: Any) -> None:
    # On an idle connection the server has nothing to say but that it ends it.
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.pgconn.socket, selectors.EVENT_READ)
            ended = bool(selector.select(0))
    except (OSError, ValueError, psycopg.Error):
        ended = True
    if ended:
        raise DisconnectionError("the connection ended while it lay idle")

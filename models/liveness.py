"""Whether a pooled connection is still there: seen on its socket, without asking the server."""

import select
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError


def watch(engine: Engine) -> None:
    """Have the engine's pool replace connections that ended while they lay idle.

    A question to the server before each transaction would take as long as one of its statements.
    One that goes away only now, or without a word, fails the transaction, as in the middle of it,
    and `failures.is_unreachable` says so: a task's transaction runs again.
    """
    event.listen(engine, "checkout", _refuse_ended)


def _refuse_ended(connection: Any, *_: Any) -> None:
    # On an idle connection the server has nothing to say but that it ends it.
    try:
        # Neither `selectors`, which costs four calls of the system, nor `select`, which knows only
        # the first thousand sockets of a process.
        socket = select.poll()
        socket.register(connection.pgconn.socket, select.POLLIN)
        ended = bool(socket.poll(0))
    except (OSError, ValueError, psycopg.Error):
        ended = True
    if ended:
        raise DisconnectionError("the connection ended while it lay idle")

"""Statements of hot paths, handed to the driver itself.

By way of SQLAlchemy a statement takes longer in Python than in PostgreSQL. What matters about that
way is kept: the session's transaction, its errors, and who listens to statements.
"""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.orm import Session

_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


def statement(sql: str) -> str:
    """Return a statement with parameters as `:name` in the driver's spelling."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


def execute(
    session: Session, statement: str, parameters: Mapping[str, Any], *, binary: bool = False
) -> list[tuple[Any, ...]]:
    """Run a statement in the session's transaction, and return its rows.

    Args:
        binary: have the rows sent as the server has them, not as text: for many rows with bytes,
            UUIDs or instants.

    Raises:
        DBAPIError: as `session.execute` would.
    """
    # What the session is bound to, without its first becoming part of the transaction.
    connection = session.bind if isinstance(session.bind, Connection) else session.connection()
    driver: Any = connection.connection.driver_connection
    cursor = driver.cursor(binary=binary)
    for tell in connection.dispatch.before_cursor_execute:
        tell(connection, cursor, statement, parameters, None, False)
    try:
        cursor.execute(statement, parameters)
        rows = cursor.fetchall() if cursor.pgresult.nfields else []
    except psycopg.Error as error:
        # What SQLAlchemy does with an error of a statement of its own: it wraps it, tells who
        # listens, and gives up a connection that was lost.
        connection._handle_dbapi_exception(error, statement, parameters, cursor, None)  # noqa: SLF001
    for tell in connection.dispatch.after_cursor_execute:
        tell(connection, cursor, statement, parameters, None, False)
    return rows

"""Statements of hot paths, handed to the driver itself.

By way of SQLAlchemy a statement takes longer in Python than in PostgreSQL. What matters about that
way is kept: the session's transaction, its errors, and who listens to statements.

A statement that the driver has prepared on a connection goes as one message with the BEGIN before
it, if it is a transaction's first, and with the COMMIT behind it, if it is its last.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import generators
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format, TransactionStatus
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")

_LAST: Final = "last_statement"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the driver reads it, as the driver sends it, and whose values it sends."""

    text: str
    sent: bytes
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Last:
    connection: Connection
    statement: Statement
    parameters: Mapping[str, Any]


def statement(sql: str) -> Statement:
    """Return a statement with parameters as `:name`, ready to be run."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    places = {name: f"${place}" for place, name in enumerate(names, 1)}
    return Statement(
        text=_PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")),
        sent=_PARAMETER.sub(lambda found: places[found[1]], sql).encode(),
        names=names,
    )


def execute(
    session: Session, statement: Statement, parameters: Mapping[str, Any], *, binary: bool = False
) -> Rows:
    """Run a statement in the session's transaction, and return its rows.

    Args:
        binary: have the rows sent as the server has them, not as text: for many rows with bytes,
            UUIDs or instants.

    Raises:
        DBAPIError: as `session.execute` would.
    """
    connection = _connection(session)
    try:
        return _heard(connection, statement, parameters, binary=binary)
    except psycopg.Error as error:
        # What SQLAlchemy does with an error of a statement of its own: it wraps it, tells who
        # listens, and gives up a connection that was lost.
        connection._handle_dbapi_exception(error, statement.text, parameters, None, None)  # noqa: SLF001


def leave_last(session: Session, statement: Statement, parameters: Mapping[str, Any]) -> None:
    """Have a statement run when the session's transaction commits, as its last.

    Nothing else may be asked of the session after it. An error of it is one of the commit.
    """
    session.info[_LAST] = _Last(_connection(session), statement, parameters)


def write_last(session: Session) -> None:
    """Run now what was left for the commit, if anything was."""
    last: _Last | None = session.info.pop(_LAST, None)
    if last is not None:
        execute(session, last.statement, last.parameters)


def hand_over(session: Session) -> None:
    """Give what was left for the commit to the connection, which is to commit next."""
    last: _Last | None = session.info.pop(_LAST, None)
    if last is not None:
        vars(last.connection.connection.driver_connection)[_LAST] = last


def watch(engine: Engine) -> None:
    """Let an engine's connections commit with what was handed over to them."""
    dialect: Any = engine.dialect
    dialect.do_commit = _committing(dialect.do_commit)
    dialect.do_rollback = _undoing(dialect.do_rollback)


def _committing(commit: Callable[[Any], None]) -> Callable[[Any], None]:
    def do_commit(pooled: Any) -> None:
        last: _Last | None = vars(pooled.driver_connection).pop(_LAST, None)
        if last is not None:
            _heard(last.connection, last.statement, last.parameters, commits=True)
        commit(pooled)  # the driver asks nothing of the server if that has been done

    return do_commit


def _undoing(rollback: Callable[[Any], None]) -> Callable[[Any], None]:
    def do_rollback(pooled: Any) -> None:
        vars(pooled.driver_connection).pop(_LAST, None)
        # With a connection that was closed (see `_exchange`) its transaction has ended too.
        if not pooled.driver_connection.closed:
            rollback(pooled)

    return do_rollback


def _connection(session: Session) -> Connection:
    # What the session is bound to, without its first becoming part of the transaction.
    return session.bind if isinstance(session.bind, Connection) else session.connection()


def _heard(
    connection: Connection,
    statement: Statement,
    parameters: Mapping[str, Any],
    *,
    binary: bool = False,
    commits: bool = False,
) -> Rows:
    dispatch, text = connection.dispatch, statement.text
    for tell in dispatch.before_cursor_execute:
        tell(connection, None, text, parameters, None, False)
    driver: Any = connection.connection.driver_connection
    rows = _rows(driver, statement, parameters, binary=binary, commits=commits)
    for tell in dispatch.after_cursor_execute:
        tell(connection, None, text, parameters, None, False)
    return rows


def _rows(
    driver: Any,
    statement: Statement,
    parameters: Mapping[str, Any],
    *,
    binary: bool,
    commits: bool,
) -> Rows:
    transformer = Transformer(driver)
    values = [parameters[name] for name in statement.names]
    sent = transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))
    name = _prepared_as(driver, (statement.sent, transformer.types or ()))
    if name is None:
        # The driver counts it, and prepares it when it has come often enough.
        cursor = driver.cursor(binary=binary)
        cursor.execute(statement.text, parameters)
        return cursor.fetchall() if cursor.pgresult.nfields else []
    format_ = Format.BINARY if binary else Format.TEXT

    def send() -> None:
        driver.pgconn.send_query_prepared(name, sent, transformer.formats, result_format=format_)

    result = _exchange(driver, send, commits=commits)
    if not result.nfields:
        return []
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def _prepared_as(driver: Any, key: tuple[bytes, tuple[int, ...]]) -> bytes | None:
    """Return the name under which the driver has prepared a statement; None if it has not."""
    prepared = driver._prepared  # noqa: SLF001 (its register, which it alone keeps)
    name: bytes | None = prepared._names.get(key)  # noqa: SLF001
    if name is None or prepared._to_flush or driver.prepare_threshold is None or driver.autocommit:  # noqa: SLF001
        return None
    prepared._names.move_to_end(key)  # noqa: SLF001 (it was used)
    return name


def _exchange(driver: Any, send: Callable[[], None], *, commits: bool) -> Any:
    """Send what begins the transaction, a statement, and what ends it; return its result."""
    server = driver.pgconn
    begins = server.transaction_status == TransactionStatus.IDLE
    try:
        said = _asked(driver, send, begins=begins, commits=commits)
    except BaseException:
        # Nobody knows what the server has yet to say: let nobody else hear it.
        driver.close()
        raise
    for results in said:
        if results[-1].status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(results[-1], encoding=driver.info.encoding)
    return said[begins][-1]


def _asked(driver: Any, send: Callable[[], None], *, begins: bool, commits: bool) -> Any:
    server = driver.pgconn
    if not (begins or commits):
        send()
        return [driver.wait(generators.execute(server))]
    server.enter_pipeline_mode()
    if begins:
        server.send_query_params(driver._get_tx_start_command(), None)  # noqa: SLF001
    send()
    if commits:
        server.send_query_params(b"COMMIT", None)
    server.pipeline_sync()
    said = driver.wait(_said(server, begins + 1 + commits))
    server.exit_pipeline_mode()
    return said


def _said(server: Any, commands: int) -> Any:
    yield from generators.send(server)
    said = []
    for _ in range(commands):
        said.append((yield from generators.fetch_many(server)))  # noqa: PERF401 (it yields)
    yield from generators.fetch_many(server)  # what tells that all was said
    return said

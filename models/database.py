"""The one place that connects, begins, commits and rolls back; models/hot.py sends these along."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, orm, text

from models import address, arrays, discretion, hot, liveness, statements

Session = orm.Session
"""An open session, for rooms that do not import SQLAlchemy."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect.

    Args:
        url: a SQLAlchemy URL with the `postgresql+psycopg` driver.
        pool_size: connections kept open in this process, at least 1.
        lock_timeout_ms, statement_timeout_ms, idle_timeout_ms: when PostgreSQL gives up waiting
            for a lock, ends a statement, ends a transaction that does nothing; 0 is never.
    """

    url: str
    pool_size: int = 2
    lock_timeout_ms: int = 10_000
    statement_timeout_ms: int = 120_000
    idle_timeout_ms: int = 60_000


class NotConfigured(RuntimeError):
    """Nothing has said which database to use: call `database.configure` first."""


class NestedTransaction(RuntimeError):
    """A transaction was opened inside another one.

    The inner block would look committed while the outer one can still undo it.
    """


_options: Options | None = None
_engine: Engine | None = None
_engine_pid: int | None = None
_engine_lock = threading.Lock()
_open_session: ContextVar[Session | None] = ContextVar("open_session", default=None)


def configure(options: Options) -> None:
    """Say which database this process uses. Connects to nothing yet."""
    global _options, _engine
    dispose()
    if options != _options:
        _options, _engine = options, None


def dispose() -> None:
    """Close this process's connections. The next transaction opens new ones."""
    global _engine  # noqa: PLW0603 (as above)
    with _engine_lock:
        if _engine is not None and _engine_pid == os.getpid():
            # The engine stays, and with it the statements that it has compiled.
            _engine.dispose()
        elif _engine is not None:
            # A pool inherited through fork belongs to the parent: forget it, do not close it.
            _engine.dispose(close=False)
            _engine = None


def engine() -> Engine:
    """Return this process's engine, made on first use and never shared across a fork.

    Raises:
        NotConfigured: `configure` was not called.
    """
    global _engine, _engine_pid
    if _options is None:
        raise NotConfigured(NotConfigured.__doc__)
    with _engine_lock:
        if _engine is None or _engine_pid != os.getpid():
            if _engine is not None:
                _engine.dispose(close=False)
            _engine, _engine_pid = _connect(_options), os.getpid()
        return _engine


def width() -> int:
    """Return how many transactions this process can have open at once, at least 1.

    Raises:
        NotConfigured: `configure` was not called.
    """
    if _options is None:
        raise NotConfigured(NotConfigured.__doc__)
    return _options.pool_size


@contextmanager
def transaction() -> Iterator[Session]:
    """Open a session in one transaction: committed at the end of the block, undone on an error.

    Functions given to `after_commit` run once the commit has succeeded.

    Raises:
        NestedTransaction: the caller is already inside a transaction.
    """
    if _open_session.get() is not None:
        raise NestedTransaction(NestedTransaction.__doc__)
    with engine().connect() as connection, connection.begin():
        session = _joined(connection)
        token = _open_session.set(session)
        try:
            yield session
            _flush(session)
        finally:
            _open_session.reset(token)
            # One that took no part in the transaction has nothing to forget.
            if session.in_transaction():
                session.close()
        hot.hand_over(session)
    for action in session.info.get("after_commit", {}).values():
        action()


def _flush(session: Session) -> None:
    if session.new or session.dirty or session.deleted:
        hot.write_last(session)  # in the order in which it was said
    if session.in_transaction():
        session.flush()


def _joined(connection: Connection) -> Session:
    """Make a session that takes part in a connection's transaction, and neither begins nor ends it.

    To do so by itself costs a session as much as a statement; `models.hot` needs none of that.
    """
    return Session(
        connection, autoflush=False, expire_on_commit=False, join_transaction_mode="rollback_only"
    )


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """Undo what the block did if it raises, and nothing else of the transaction."""
    told = dict(session.info)
    try:
        with session.begin_nested():
            yield
    except BaseException:
        _forget_but(session, told)
        raise


def relax(session: Session) -> None:
    """Let the session's commit not wait for the disk.

    For what may be done again: should the database's server crash within the next second, this
    transaction may not have happened. What commits later without this is never there without it.
    """
    session.execute(text("SET LOCAL synchronous_commit TO off"))


@contextmanager
def undone(session: Session) -> Iterator[None]:
    """Undo what the block did, however it ends: to see what would come of it."""
    told = dict(session.info)
    point = session.begin_nested()
    try:
        yield
    finally:
        point.rollback()
        _forget_but(session, told)


@contextmanager
def planned_anew(session: Session) -> Iterator[None]:
    """Let PostgreSQL plan the block's statements for the very values they are given.

    For chunks: after ten calls a prepared statement gets one plan for all values, made for an array
    of ten, and joins the thousands that are in it row by row. To forbid such plans on the server
    (`plan_cache_mode`) would be worse: it plans each check of a foreign key anew, row by row.
    """
    driver: Any = session.connection().connection.driver_connection
    threshold, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield
    finally:
        driver.prepare_threshold = threshold


def in_transaction() -> bool:
    """Tell whether the caller is inside `transaction()`: nothing may wait for a network there."""
    return _open_session.get() is not None


def after_commit(session: Session, name: str, action: Callable[[], None]) -> None:
    """Run `action` once the session's transaction has committed; once per name."""
    session.info["after_commit"] = {**session.info.get("after_commit", {}), name: action}


def _forget_but(session: Session, told: Mapping[str, object]) -> None:
    """What was to be told after the commit did not happen: let there be what was before."""
    session.info.clear()
    session.info.update(told)


def _connect(options: Options) -> Engine:
    timeouts = {
        "lock_timeout": options.lock_timeout_ms,
        "statement_timeout": options.statement_timeout_ms,
        "idle_in_transaction_session_timeout": options.idle_timeout_ms,
    }
    made = create_engine(
        address.driver_url(options.url),
        pool_size=options.pool_size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 10,
            "application_name": "billing",
            "options": " ".join(f"-c {name}={value}" for name, value in timeouts.items())
            + " -c timezone=UTC",
        },
    )
    arrays.quicken(made)
    discretion.keep(made)
    hot.watch(made)
    liveness.watch(made)
    statements.watch(made)
    return made

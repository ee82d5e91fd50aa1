"""Who is in a migration's way, and that no two migrate at a time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from models import failures

MIGRATION_LOCK = 0x62696C6C
"""Key of the advisory lock that lets one process migrate at a time."""

APPLICATION = "billing migrate"

LOOKS_A_SECOND = 5
"""How often we look whom a migration waits for."""

BLOCKERS = text("""
    SELECT format('%s on %s', wanted.mode, coalesce(wanted.relation::regclass::text,
                  'what is older than an index')) AS wanted,
           other.pid, other.usename, other.application_name, host(other.client_addr) AS host,
           other.state, extract(epoch FROM now() - other.xact_start)::bigint AS seconds
    FROM pg_locks AS wanted
    CROSS JOIN LATERAL unnest(pg_blocking_pids(wanted.pid)) AS blocking(pid)
    JOIN pg_stat_activity AS other ON other.pid = blocking.pid
    WHERE wanted.pid = :pid AND NOT wanted.granted
    ORDER BY other.xact_start
""")
"""Of the table's name, not of the statement: that may hold what customers sent."""


class Blocked(RuntimeError):
    """A migration could not have a lock in time: nothing of it was done, and it may run again.

    Args:
        waited_for: a line for each session that held it; none if it was gone before we looked.
    """

    def __init__(self, waited_for: tuple[str, ...], said: str = "") -> None:
        super().__init__(said or "; ".join(waited_for))
        self.waited_for = waited_for

    def after(self, tries: int, lock_timeout_ms: int) -> "Blocked":
        """Return the same, told to whoever has to do something about it."""
        who = "; ".join(self.waited_for) or "somebody who let go meanwhile"
        return Blocked(
            self.waited_for,
            f"a migration could not have its lock within {lock_timeout_ms} ms in {tries} tries: it "
            f"waited for {who}. Nothing of it was done. End that session, with "
            "pg_terminate_backend(process), or wait for it; then run `billing migrate` again",
        )


@dataclass(slots=True)
class Watch:
    """Whom a connection was last seen to wait for."""

    waited_for: tuple[str, ...] = ()
    over: threading.Event = field(default_factory=threading.Event)


def alone(keeper: Connection, tell: Callable[[str], None]) -> None:
    """Hold the lock of migrations until the connection is closed.

    Raises:
        Blocked: another process has it.
    """
    with watching_itself(keeper, tell) as watch:
        try:
            keeper.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        except DBAPIError as error:
            if not failures.is_lock_timeout(error):
                raise
            raise Blocked(watch.waited_for or ("another `billing migrate`",)) from None


@contextmanager
def watching_itself(keeper: Connection, tell: Callable[[str], None]) -> Iterator[Watch]:
    """Watch a connection from another one."""
    with (
        keeper.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other,
        watching(other, keeper, tell) as watch,
    ):
        yield watch


@contextmanager
def watching(
    keeper: Connection, connection: Connection, tell: Callable[[str], None]
) -> Iterator[Watch]:
    """Look, over `keeper`, whom the other connection waits for while the block runs."""
    watch = Watch()
    driver = connection.connection.driver_connection
    pid = driver.info.backend_pid if driver is not None else 0
    thread = threading.Thread(
        target=_look, args=(keeper, pid, watch, tell), name="migration-watch", daemon=True
    )
    thread.start()
    try:
        yield watch
    finally:
        watch.over.set()
        thread.join()


def _look(keeper: Connection, pid: int, watch: Watch, tell: Callable[[str], None]) -> None:
    # A connection that fails says so to the migration; here it only ends the looking.
    with suppress(SQLAlchemyError):
        while not watch.over.wait(1 / LOOKS_A_SECOND):
            rows = keeper.execute(BLOCKERS, {"pid": pid}).all()
            found = tuple(_line(row) for row in rows)
            if found and _who(found) != _who(watch.waited_for):
                for line in found:
                    tell(f"waits for {line}")
            watch.waited_for = found or watch.waited_for


def _who(lines: tuple[str, ...]) -> list[str]:
    return [line.partition(",")[0] for line in lines]


def _line(row: Row[Any]) -> str:
    where = f" from {row.host}" if row.host else ""
    named = f" {row.application_name!r}" if row.application_name else ""
    return (
        f"{row.wanted} held by process {row.pid}, user {row.usename}{named}{where}, {row.state}, "
        f"in a transaction for {row.seconds or 0} s"
    )

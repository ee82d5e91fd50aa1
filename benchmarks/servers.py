"""Where benchmarks run: embedded servers that wait for the disk, and real worker processes."""

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from models import database
from tasks import config
from tasks.queues import Queue
from tasks.upkeep import prepare_partitions
from webhooks import keyring
from worker import app as _app  # noqa: F401 (messages go to its queues)
from worker import boot, local, processes, programs, settings, stack

SOFT_SHUTDOWN_SECONDS = 2.0

LONGEST_WAIT = 300.0
"""Seconds that workers get for what they were given."""

POLL_SECONDS = 0.005

OUTBOX = ("outbox_pending", "outbox_messages", "deliveries", "delivery_leases", "delivery_attempts")
"""Tables that fill up whatever is done, since it is told."""

_TABLES = """
    SELECT string_agg(format('%I', tablename), ', ') FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""


class NeverDone(RuntimeError):
    """Workers did not get done with what they were given."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Running servers with migrated tables, and this process wired to them.

    Args:
        connection: of the benchmark's own, without any transaction around its statements. It is
            above the triggers that refuse to empty a table.
        redis: the broker.
    """

    connection: psycopg.Connection[Any]
    redis: Redis
    environment: dict[str, str]
    folder: Path

    def empty(self, *tables: str) -> None:
        """Empty tables, all if none is named, and write out what PostgreSQL still holds back.

        What refers to their rows goes with them.
        """
        names = ", ".join(tables) or self.value(_TABLES)
        while True:
            # A worker that looks once more for work locks the same tables in another order.
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                self.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
                break
        self.execute("CHECKPOINT")

    def copy_of(self, table: str) -> str:
        """Make an empty table with the columns, constraints and indexes of another."""
        name = f"copy_of_{table}"
        self.execute(f"DROP TABLE IF EXISTS {name}")
        self.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
        return name

    def execute(self, statement: str, parameters: dict[str, Any] | None = None) -> None:
        """Run one statement."""
        self.connection.execute(statement.encode(), parameters)

    def value(self, statement: str) -> Any:
        """Return the one value that a query finds."""
        row = self.connection.execute(statement.encode()).fetchone()
        return None if row is None else row[0]

    def rows(self, statement: str) -> list[Any]:
        """Return all that a statement finds."""
        return self.connection.execute(statement.encode()).fetchall()

    @contextlib.contextmanager
    def role(self, role: str) -> Iterator[None]:
        """Run the block's statements as "origin", under all constraints, or as "replica".

        A replica checks no foreign keys and runs no triggers, as the connection does elsewhere.
        """
        self.execute(f"SET session_replication_role = {role}")
        try:
            yield
        finally:
            self.execute("SET session_replication_role = replica")

    @contextlib.contextmanager
    def beat(self) -> Iterator[None]:
        """Run beat."""
        invocation = programs.beat()
        program = processes.Program(
            name="beat", command=invocation.command, environment=invocation.environment
        )
        with processes.running(say=_say, tell=_ignore, cwd=settings.ROOT) as supervisor:
            supervisor.start(program)
            yield

    @contextlib.contextmanager
    def worker(self, *queues: Queue, concurrency: int) -> Iterator[None]:
        """Run a worker of so many processes; return to the caller when it is ready."""
        # What nobody was there for: rings of earlier benchmarks.
        self.redis.flushdb()
        invocation = programs.worker(queues=queues, concurrency=concurrency)
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        program = processes.Program(
            name="worker",
            command=invocation.command,
            environment={**invocation.environment, "BILLING_ALIVE_FILE": str(ready)},
            is_ready=ready.exists,
            patience=SOFT_SHUTDOWN_SECONDS + stack.EXTRA_PATIENCE_SECONDS,
        )
        with processes.running(say=_say, tell=_ignore, cwd=settings.ROOT) as supervisor:
            supervisor.start(program)
            supervisor.wait_until_ready(program.name)
            yield


@contextlib.contextmanager
def running() -> Iterator[Stage]:
    """Start the servers on an empty folder of their own, and leave nothing of them.

    What this process commits rings nobody: senders are told when the clock runs.
    """
    with tempfile.TemporaryDirectory(prefix="billing-bench-") as name:
        folder = Path(name)
        with local.running(folder, fsync=True) as servers:
            environment = _environment(servers)
            os.environ.update(environment)
            boot.prepare()
            boot.collect_rarely()
            config.use(dataclasses.replace(config.current(), kick=False))
            stack.migrate()
            prepare_partitions()
            with _connected(servers) as connection, Redis.from_url(servers.broker_url) as redis:
                yield Stage(connection, redis, environment, folder)
            database.dispose()
        local.clear(folder)


def wait_until(is_done: Callable[[], bool]) -> None:
    """Return when it is so.

    Raises:
        NeverDone: it was not within `LONGEST_WAIT`.
    """
    deadline = time.monotonic() + LONGEST_WAIT
    while not is_done():
        if time.monotonic() > deadline:
            raise NeverDone(f"the workers were not done after {LONGEST_WAIT:.0f} s")
        time.sleep(POLL_SECONDS)


def _environment(servers: local.Servers) -> dict[str, str]:
    return {
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "BILLING_MASTER_KEYS": keyring.new_master_key("bench"),
        "BILLING_WEBHOOK_ALLOW_HTTP": "true",
        "BILLING_WEBHOOK_PRIVATE_HOSTS": "127.0.0.0/8",
        "BILLING_SOFT_SHUTDOWN_SECONDS": str(SOFT_SHUTDOWN_SECONDS),
        "BILLING_LOG": "json",
        "BILLING_LOG_LEVEL": "WARNING",
    }


@contextlib.contextmanager
def _connected(servers: local.Servers) -> Iterator[psycopg.Connection[Any]]:
    url = servers.database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET timezone = 'UTC'")
        yield connection


def _say(name: str, line: str) -> None:
    print(f"{name}: {line}", file=sys.stderr)


def _ignore(_: str) -> None:
    """A supervisor's own words: starts and ends that are wanted."""

"""A whole system in a test's folder: real servers, real processes, a producer, real kills.

Everything ends with the block, and what the processes said is printed when the block failed. Use it
from one thread.
"""

import contextlib
import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import text

from models import database
from tasks.queues import Queue
from tests import clusters
from tests.acceptance.producer import Producer
from webhooks import keyring
from worker import local, processes, programs, settings
from worker.demo import stage
from worker.local import guard

SOFT_SHUTDOWN_SECONDS = 3
VISIBILITY_TIMEOUT_SECONDS = 5
"""So that a message whose worker was killed comes back within a test."""

SEND_TIMEOUT_SECONDS = 2
"""Of one webhook attempt; the lease of a killed sender, four times that, is over in a test too."""

STOP_SECONDS = 120.0
POLL_SECONDS = 0.05
LAST_LINES = 60

GONE = frozenset({"", "Z", "X"})
"""States of a process that is no more, or waits to be buried."""

SWIFT = "tests.acceptance.swift"
"""The Celery application with a timetable for the impatient, for beat."""


class NeverHappened(AssertionError):
    """What a test waited for did not come about in time."""


@dataclass(slots=True)
class System:
    """What runs. `environment` is that of every process."""

    servers: local.Servers
    folder: Path
    environment: dict[str, str]
    supervisor: processes.Supervisor
    subscriber: stage.Subscriber
    producer: Producer
    _programs: dict[str, processes.Program] = field(default_factory=dict)
    _redis: "subprocess.Popen[bytes] | None" = None

    def start_worker(
        self,
        name: str,
        *,
        queues: Iterable[Queue] = tuple(Queue),
        concurrency: int = 2,
        include: str | None = None,
        flags: Iterable[str] = (),
        **environment: str,
    ) -> None:
        """Start a worker, by the command of production; `include` is a module of further tasks."""
        invocation = programs.worker(queues=queues, concurrency=concurrency, name=name)
        command = [*invocation.command, *([f"--include={include}"] if include else []), *flags]
        self._start(name, command, {**invocation.environment, **environment})

    def start_beat(
        self, name: str = "beat", *, swift: bool = True, state: Path | None = None
    ) -> None:
        """Start beat; a swift one rings everything every second or two."""
        command = list(programs.beat(state=state).command)
        if swift:
            command[command.index("--app") + 1] = SWIFT
        self._start(name, command, {})

    def await_ready(self) -> None:
        """Wait until every process is ready for its work."""
        for name in self._programs:
            self.supervisor.wait_until_ready(name)

    def is_ready(self, name: str) -> bool:
        """Tell whether a process has said that it is ready since it was last started."""
        return self._programs[name].is_ready()

    def pid(self, name: str) -> int:
        """Return the id of a process; a worker's main one."""
        return self.supervisor.pid(name)

    def pool_of(self, name: str) -> list[int]:
        """Return the ids of a worker's pool children."""
        return children_of(self.pid(name))

    def kill(self, name: str) -> None:
        """Kill -9 a process and start it again, as a service manager would: the group goes too."""
        os.kill(self.pid(name), signal.SIGKILL)
        self.restart(name)

    def restart(self, name: str) -> None:
        """Start a process again that was killed, or that ended by itself."""
        self.supervisor.stop(name)
        self.supervisor.start(self._programs[name])

    def terminate(self, name: str) -> None:
        """Send SIGTERM and wait for the end."""
        os.kill(self.pid(name), signal.SIGTERM)
        self.wait(lambda: name not in self.supervisor.pids(), within=STOP_SECONDS)

    def ask(self, task: str, **arguments: Any) -> Any:
        """Send one task and return its answer; sent again while none comes."""
        (answer,) = self.producer.send_all([(task, arguments)])
        return answer

    def query(self, statement: str, **parameters: Any) -> list[Any]:
        """Return the rows of a query."""
        with database.transaction() as session:
            return [tuple(row) for row in session.execute(text(statement), parameters)]

    def redis(self) -> "redis.Redis":
        """Return a client of the broker; the caller closes it."""
        return redis.Redis.from_url(self.servers.broker_url)

    def flush_redis(self) -> None:
        """Make the broker forget every message, answer and binding."""
        with contextlib.closing(self.redis()) as client:
            client.flushall()

    def crash_redis(self, *, away: float) -> None:
        """Kill -9 the broker's server, and start it on the same port and data after `away` s."""
        data = (self.folder / "servers" / guard.DATA).resolve()
        pid = guard.find_server(guard.VALKEY, data)
        assert pid is not None
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        owner = Path(f"/proc/{pid}").stat()
        os.kill(pid, signal.SIGKILL)
        if self._redis is not None:
            self._redis.wait(STOP_SECONDS)
        time.sleep(away)
        self._redis = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=owner.st_uid,
            group=owner.st_gid,
            start_new_session=True,
        )

    def wait(
        self,
        until: Callable[[], Any],
        *,
        within: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Return once `until` holds; NeverHappened after `within` seconds."""
        deadline = time.monotonic() + within
        while not until():
            if time.monotonic() > deadline:
                raise NeverHappened(f"not within {within:g} s: {until.__doc__ or until}")
            meanwhile()
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End what the block's own contexts do not."""
        self.producer.close()
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait(STOP_SECONDS)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        ready = self.folder / f"{name}.ready"
        program = processes.Program(
            name=name,
            command=command,
            environment={
                **self.environment,
                **environment,
                "BILLING_ALIVE_FILE": str(ready),
            },
            is_ready=ready.exists,
            before_start=functools.partial(ready.unlink, missing_ok=True),
            patience=STOP_SECONDS,
        )
        self._programs[name] = program
        self.supervisor.start(program)


@contextlib.contextmanager
def running(folder: Path, **environment: str) -> Iterator[System]:
    """Run servers with a database without rows, and a subscriber; the test starts the rest.

    Args:
        folder: where everything is kept.
        environment: settings of the processes beyond those of every test.
    """
    log = folder / "processes.log"
    with (
        clusters.running(folder / "servers") as servers,
        stage.subscribing() as subscriber,
        _database(servers),
        _supervisor(log) as supervisor,
    ):
        system = System(
            servers=servers,
            folder=folder,
            environment={**_environment(servers), **environment},
            supervisor=supervisor,
            subscriber=subscriber,
            producer=Producer(servers.broker_url),
        )
        try:
            yield system
        except BaseException:
            print("\n".join(log.read_text().splitlines()[-LAST_LINES:]))  # noqa: T201
            raise
        finally:
            # Nobody waits for a graceful end here: that has a test of its own.
            for pid in supervisor.pids().values():
                os.kill(pid, signal.SIGKILL)
            supervisor.stop_all()
            system.close()


def children_of(pid: int) -> list[int]:
    """Return the ids of a process' children that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        state, parent = _state_and_parent(int(entry.name))
        if parent == pid and state not in GONE:
            found.append(int(entry.name))
    return sorted(found)


def state_of(pid: int) -> str:
    """Return what the kernel says of a process: R for at work, S for waiting, Z or "" for gone."""
    return _state_and_parent(pid)[0]


def sockets_of(pid: int) -> set[str]:
    """Return the TCP sockets that a process holds, by the kernel's numbers."""
    connected = {line.split()[9] for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()}
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return held & connected


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return "", 0
    return state, int(parent)


@contextlib.contextmanager
def _database(servers: local.Servers) -> Iterator[None]:
    database.configure(database.Options(url=servers.database_url))
    try:
        yield
    finally:
        database.dispose()


@contextlib.contextmanager
def _supervisor(log: Path) -> Iterator[processes.Supervisor]:
    lock = threading.Lock()
    with log.open("w", encoding="utf-8") as file:

        def write(name: str, line: str) -> None:
            with lock:
                file.write(f"{name}: {line}\n")
                file.flush()

        tell = functools.partial(write, "supervisor")
        with processes.running(say=write, tell=tell, cwd=settings.ROOT) as supervisor:
            yield supervisor


def _environment(servers: local.Servers) -> dict[str, str]:
    return {
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "BILLING_MASTER_KEYS": keyring.new_master_key("test"),
        "BILLING_WEBHOOK_ALLOW_HTTP": "true",
        "BILLING_WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        "BILLING_WEBHOOK_TIMEOUT_SECONDS": str(SEND_TIMEOUT_SECONDS),
        "BILLING_INVOICE_GRACE_HOURS": "0",
        "BILLING_SOFT_SHUTDOWN_SECONDS": str(SOFT_SHUTDOWN_SECONDS),
        "BILLING_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_TIMEOUT_SECONDS),
        "BILLING_LOG": "json",
        "BILLING_LOG_LEVEL": "INFO",
    }

"""The demo's stage: servers, workers, beat and a subscriber, all real processes, gone at the end."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import database, migrations
from tasks.queues import Queue
from webhooks import keyring
from worker import boot, local, processes, programs, settings

LOG = "processes.log"


class SubscriberFailed(RuntimeError):
    """The subscriber's process ended or said something that is not its protocol."""


class Subscriber:
    """The far end of the webhooks: a process of its own that verifies what it is sent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port: int = self._hear()["port"]

    def trust(self, path: str, secret: str) -> str:
        """Expect deliveries at `path` to be signed with `secret`; return the URL to send them to."""
        self._ask({"path": path, "secret": secret})
        return self.url(path)

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def report(self) -> dict[str, Any]:
        """Return what has arrived so far."""
        return self._ask({"report": True})

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SubscriberFailed(f"the subscriber ended with status {self._process.poll()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running."""

    servers: local.Servers
    supervisor: processes.Supervisor
    subscriber: Subscriber
    log: Path


@contextlib.contextmanager
def set_up(folder: Path) -> Iterator[Stage]:
    """Start everything on an empty database in `folder`, and end all of it with the block."""
    local.clear(folder)
    with local.running(folder) as servers:
        os.environ.update(_environment(servers))
        boot.prepare()
        migrations.upgrade(database.engine())
        with (folder / LOG).open("w", encoding="utf-8") as log, _subscriber() as subscriber:
            with _workers(log) as supervisor:
                yield Stage(servers, supervisor, subscriber, folder / LOG)
        database.dispose()


def _environment(servers: local.Servers) -> dict[str, str]:
    """What the workers and this process have in common."""
    return {
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "BILLING_MASTER_KEYS": keyring.new_master_key("demo"),
        "BILLING_WEBHOOK_ALLOW_HTTP": "true",
        "BILLING_WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        "BILLING_LOG": "json",
    }


@contextlib.contextmanager
def _workers(log: Any) -> Iterator[processes.Supervisor]:
    lock = threading.Lock()

    def write(name: str, line: str) -> None:
        with lock:
            log.write(f"{name}: {line}\n")
            log.flush()

    with processes.running(
        say=write, tell=lambda line: write("demo", line), cwd=settings.ROOT
    ) as supervisor:
        for name, invocation in {
            "worker": programs.worker(queues=(Queue.usage, Queue.billing), concurrency=2),
            "sender": programs.worker(queues=(Queue.webhooks,), concurrency=1),
            "beat": programs.beat(),
        }.items():
            supervisor.start(
                processes.Program(
                    name=name, command=invocation.command, environment=invocation.environment
                )
            )
        yield supervisor


@contextlib.contextmanager
def _subscriber() -> Iterator[Subscriber]:
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.demo.subscriber"],
        cwd=settings.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Subscriber(process)
    finally:
        # Its standard input closes, with us too if we are killed, and it ends.
        process.communicate(timeout=10)

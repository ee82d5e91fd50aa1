"""The demo's stage: servers, workers, beat, a subscriber; real processes, gone at the end."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models import database
from webhooks import keyring
from worker import boot, local, processes, secret_files, settings, stack

LOG = "processes.log"
"""What workers and beat say, in the demo's folder."""

SOFT_SHUTDOWN_SECONDS = 2.0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SubscriberFailed(RuntimeError):
    """The subscriber's process ended or said something that is not its protocol."""


class Subscriber:
    """The far end of the webhooks: a process of its own that verifies what it is sent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the subscriber's process needs pipes")
        self._process, self._input, self._output = process, process.stdin, process.stdout
        self._port: int = self._hear()["port"]

    def trust(self, path: str, secret: str) -> None:
        """Expect deliveries at `path` to be signed with `secret`."""
        self._ask({"path": path, "secret": secret})

    def be_busy(self, path: str, *, requests: int) -> None:
        """Turn some of the next requests to `path` away, as a service that restarts does."""
        self._ask({"path": path, "busy": requests})

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self._port}{path}"

    def report(self) -> dict[str, Any]:
        """Return what has arrived so far."""
        return self._ask({"report": True})

    def received(self) -> set[tuple[str, str]]:
        """Return each genuine delivery so far as its path and `webhook-id`."""
        return {(path, message_id) for path, message_id in self._ask({"list": True})["received"]}

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self._input.write(json.dumps(message) + "\n")
        self._input.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line:
            raise SubscriberFailed(f"the subscriber ended with status {self._process.poll()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def set_up(folder: Path) -> Iterator[Subscriber]:
    """Start everything on an empty database in `folder`, and end all of it with the block.

    What the workers say goes to `processes.log` in that folder.

    Raises:
        AlreadyRunning: another demo is using the folder.
    """
    local.clear(folder)
    with local.running(folder) as servers:
        environment = _environment(servers)
        os.environ.update(environment)
        boot.prepare()
        stack.migrate()
        database.dispose()
        with subscribing() as subscriber, _workers(folder, environment):
            yield subscriber
        database.dispose()


@contextlib.contextmanager
def subscribing() -> Iterator[Subscriber]:
    """Run the subscriber's process for as long as the block does."""
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


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the block, and no second one cut the ending short."""

    def stop(*_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(servers: local.Servers) -> dict[str, str]:
    """What this process and its children have in common."""
    given = {
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "BILLING_MASTER_KEYS": keyring.new_master_key("demo"),
    }
    return {
        **given,
        **secret_files.not_from_files(given),
        "BILLING_WEBHOOK_ALLOW_HTTP": "true",
        "BILLING_WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        "BILLING_SOFT_SHUTDOWN_SECONDS": str(SOFT_SHUTDOWN_SECONDS),
        "BILLING_LOG": "json",
        "BILLING_LOG_LEVEL": "WARNING",
    }


@contextlib.contextmanager
def _workers(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run workers and beat; return to the caller when they are ready."""
    lock = threading.Lock()
    with (
        (folder / LOG).open("w", encoding="utf-8") as log,
        tempfile.TemporaryDirectory(prefix="billing-demo-") as ready,
    ):

        def write(name: str, line: str) -> None:
            with lock:
                log.write(f"{name}: {line}\n")
                log.flush()

        programs = stack.programs_of(
            environment,
            ready=Path(ready),
            soft_shutdown=SOFT_SHUTDOWN_SECONDS,
            flower_port=None,
        )
        tell = functools.partial(write, "demo")
        with processes.running(say=write, tell=tell, cwd=settings.ROOT) as supervisor:
            for program in programs:
                supervisor.start(program)
            for program in programs:
                supervisor.wait_until_ready(program.name)
            yield

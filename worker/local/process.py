"""The life of one embedded server's process: a port, a start that may need another try, an end."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.local import accounts, guard

HOST = "127.0.0.1"

START_ATTEMPTS = 8
START_SECONDS = 60.0
POLL_SECONDS = 0.01
LOG_LINES = 12
LOG_BYTES = 10_000_000
INHERITED = ("PATH", "LD_LIBRARY_PATH")

# What a server says when another start may well succeed: the port was taken between our choosing
# and its binding, or the children of a killed postmaster have not all noticed yet.
WORTH_ANOTHER_TRY = ("Address already in use", "pre-existing shared memory block")


class ServerFailed(RuntimeError):
    """An embedded server did not start; the message ends in the last lines of its log."""

    def __init__(self, name: str, log: Path, said: str) -> None:
        lines = "\n".join(said.splitlines()[-LOG_LINES:])
        super().__init__(
            f"{name} did not start (limit {START_SECONDS:g} s); the end of its log {log}:\n{lines}"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """How one server is started and how it tells that it is ready."""

    kind: guard.Kind
    command: Callable[[int], list[str]]
    """For a port."""
    is_ready: Callable[[int, int], bool]
    """Of a pid and a port."""


@contextlib.contextmanager
def serving(plan: Plan, account: accounts.Account, log: Path) -> Iterator[int]:
    """Run a server on a free port, which is yielded; end it with us."""
    process, port = _start(plan, account, log)
    try:
        yield port
    finally:
        _stop(process, plan.kind)


def run(command: list[str], account: accounts.Account, log: Path, text: str) -> None:
    """Run a program that prepares a server, with `text` as its input. Raises ServerFailed."""
    answer = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env=_environment(),
        user=account.uid,
        group=account.gid,
        extra_groups=account.groups,
        start_new_session=True,
    )
    _roll(log)
    with log.open("a") as file:
        file.write(answer.stdout)
    if answer.returncode != 0:
        raise ServerFailed(Path(command[0]).name, log, answer.stdout)


def _start(plan: Plan, account: accounts.Account, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    _roll(log)
    said = ""
    for _ in range(START_ATTEMPTS):
        port = _free_port()
        known = log.stat().st_size
        process = _spawn(plan.command(port), account, log)
        if _becomes_ready(process, plan, port):
            return process, port
        said = log.read_bytes()[known:].decode(errors="replace")
        if not any(reason in said for reason in WORTH_ANOTHER_TRY):
            break
        time.sleep(POLL_SECONDS)
    raise ServerFailed(plan.kind.name, log, said)


def _spawn(command: list[str], account: accounts.Account, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            # Out of the terminal's process group: Ctrl-C is for the workers, which still need us.
            start_new_session=True,
        )


def _becomes_ready(process: subprocess.Popen[bytes], plan: Plan, port: int) -> bool:
    """Wait until the server is ready; ends it and says False when it is not going to be."""
    deadline = time.monotonic() + START_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if plan.is_ready(process.pid, port):
                return True
            time.sleep(POLL_SECONDS)
    except BaseException:
        _stop(process, plan.kind)
        raise
    _stop(process, plan.kind)
    return False


def _stop(process: subprocess.Popen[bytes], kind: guard.Kind) -> None:
    for number in kind.signals:
        process.send_signal(number)
        try:
            process.wait(guard.PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    # Ours may hold secrets, and PG* variables that mislead; C so that we can read the messages.
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _roll(log: Path) -> None:
    """Make the log, private because servers quote failed statements; set a long one aside."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.rename(log.with_name(f"{log.name}.1"))
    log.touch(mode=0o600)

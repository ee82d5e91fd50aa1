"""Who holds a folder of embedded servers, and what becomes of the servers when the holder dies.

`worker.local` starts this file by its path as a watcher beside the servers: the standard library
alone, no import of ours, so that it costs a bare interpreter and starts before the servers do.
A watcher and not Linux' parent-death signal, because that one is tied to the *thread* that started
the servers, is forgotten when privileges are dropped, and does not exist on macOS.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOCK = "lock"
STATE = "servers.json"
DATA = "data"

WATCH_SECONDS = 0.3
POLL_SECONDS = 0.02
HANDOVER_SECONDS = 60.0
"""How long a start waits for the watcher of a dead holder to end its servers."""
PATIENCE_SECONDS = 20.0
"""How long a server may take to obey one signal before it gets the next, harder one."""
STRAGGLER_SECONDS = 1.0
"""A server whose holder died while starting it has written its pid file by then."""


class AlreadyRunning(RuntimeError):
    """Another live process holds the folder.

    `folder` and `pid` name both; `pid` is 0 when the holder died and a child of it lives on with
    the lock.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        who = f"process {pid}" if pid else "a child of a process that died"
        super().__init__(
            f"the embedded servers of {folder} are held by {who}: stop that process first, use "
            f"its servers, or choose another folder"
        )
        self.folder = folder
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of server: its folder below the data, its pid file there, how it is asked to end."""

    name: str
    binary: str
    pid_file: str
    signals: tuple[signal.Signals, ...]


# PostgreSQL: SIGINT is the fast shutdown (sessions are cut off, a checkpoint is written), SIGQUIT
# the immediate one (recovery at the next start).
POSTGRES = Kind(
    "postgres", "postgres", "postmaster.pid", (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
)
VALKEY = Kind("valkey", "valkey-server", "valkey.pid", (signal.SIGTERM, signal.SIGKILL))
KINDS = (VALKEY, POSTGRES)


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[int]:
    """Hold `folder`, which must exist; yields the lock's file descriptor, for the watcher.

    Waits up to HANDOVER_SECONDS for the watcher of a holder that died. Raises AlreadyRunning when
    the holder is alive, or still not done by then.
    """
    # flock, not a POSIX lock: it also refuses a second holder inside one process, and the watcher
    # shares it by inheriting the descriptor, so there is no moment between holder and watcher.
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield descriptor
        finally:
            _release(descriptor)
    finally:
        os.close(descriptor)


def holder(folder: Path) -> int | None:
    """The live process that holds `folder`, None when there is none."""
    try:
        text = (folder / LOCK).read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() and _is_alive(int(text)) else None


def find_server(kind: Kind, data: Path) -> int | None:
    """The pid of the live server of this kind on `data`, None when there is none.

    A pid file alone proves nothing (pids are used again): the process' command line must name both
    the binary and the folder.
    """
    home = data / kind.name
    pid = _read_pid(home / kind.pid_file)
    if pid is None:
        return None
    words = _command(pid)
    return pid if f"/{kind.binary} " in words and f" {home} " in words else None


def end_leftovers(data: Path) -> None:
    """End the servers that still run on `data`; return when they are gone."""
    for kind in KINDS:
        for number in kind.signals:
            pid = find_server(kind, data)
            if pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            _wait_until_gone(kind, data)
        _drop_misleading_pid_file(data / kind.name / kind.pid_file)


def end_own(folder: Path, descriptor: int) -> None:
    """End the servers of the `folder` whose lock is `descriptor`; not those of its successor.

    A folder may be removed and made anew under running servers: then another lock lies there.
    """
    try:
        ours = os.path.samestat((folder / LOCK).stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return
    if ours:
        end_leftovers((folder / DATA).resolve())
        (folder / STATE).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    building = path.with_name(f".{path.name}")
    building.unlink(missing_ok=True)
    descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)


def watch(*, folder: Path, descriptor: int, parent: int) -> None:
    """Wait for the death of process `parent`, then end its servers and let go of the folder.

    `descriptor` is that of the folder's lock, inherited from the parent.
    """
    # A poll of the parent's pid and not a pipe's end: a pipe is inherited by whatever the holder
    # forks and would stay open as long as any of those live.
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    end_own(folder, descriptor)
    time.sleep(STRAGGLER_SECONDS)
    end_own(folder, descriptor)
    _release(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = os.pread(descriptor, 32, 0).decode()
            pid = int(text) if text.isdigit() else 0
            if pid and _is_alive(pid):
                raise AlreadyRunning(folder, pid) from error
            if time.monotonic() > deadline:
                raise AlreadyRunning(folder, 0) from error
            time.sleep(POLL_SECONDS)
        else:
            return


def _release(descriptor: int) -> None:
    # Unlocked by name, not by closing: a process forked by the holder shares the lock.
    os.ftruncate(descriptor, 0)
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_alive(pid: int) -> bool:
    return bool(_command(pid).strip())  # empty for one that has died and waits to be reaped


def _read_pid(path: Path) -> int | None:
    try:
        pid = int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return pid if pid > 0 else None


def _command(pid: int) -> str:
    """The command line of a process, words apart by spaces and a space at both ends."""
    if Path("/proc/self/cmdline").exists():
        try:
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return f" {words} "
    answer = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return f" {answer.stdout.strip()} "


def _wait_until_gone(kind: Kind, data: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while find_server(kind, data) is not None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _drop_misleading_pid_file(path: Path) -> None:
    # After a reboot or in a new container the old pid is often somebody else's, and PostgreSQL then
    # refuses to start. A pid of nobody is left to PostgreSQL, which checks its shared memory too.
    pid = _read_pid(path)
    if pid is not None and _is_alive(pid):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    watch(folder=Path(sys.argv[1]), descriptor=int(sys.argv[2]), parent=int(sys.argv[3]))

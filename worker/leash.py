"""What keeps child processes from outliving the supervisor, even one that was killed by -9.

Run by path with the standard library alone (`python -I -S leash.py …`), in two roles. `hold` is
how each child starts: it waits for a word on its standard input, which comes once the watcher knows
of it, and then becomes the child's program. `watch` is one process beside them all: when the
supervisor is gone it ends their process groups, the pools of workers included.

A watcher and not Linux' parent-death signal, because that one reaches only the child itself, is
tied to the thread that started it, and does not exist on macOS.
"""

import contextlib
import os
import select
import signal
import sys
import time

POLL_SECONDS = 0.3
GRACE_SECONDS = 3.0
"""What orphans get between SIGTERM and SIGKILL: their servers go at the same moment."""

GO = b"go\n"


def hold(command: list[str]) -> None:
    """Become `command` once told to; end if whoever should tell us is gone."""
    if os.read(0, len(GO)) != GO:
        sys.exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.execvp(command[0], command)  # noqa: S606 (a list of arguments, no shell)


def watch(parent: int) -> None:
    """Read "+group" and "-group" lines; when the parent is gone, end the groups that remain."""
    # Signals sent to everybody (a service manager's stop) are for the supervisor to act upon.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    heard = b""
    # The pipe's end alone is no proof: whatever the parent forked holds it open too.
    while os.getppid() == parent:
        if not select.select([0], [], [], POLL_SECONDS)[0]:
            continue
        chunk = os.read(0, 4096)
        if not chunk:
            break
        *lines, heard = (heard + chunk).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    _end(groups)


def _end(groups: set[int]) -> None:
    for group in groups:
        _signal(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(_signal(group, 0) for group in groups):
        time.sleep(POLL_SECONDS)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch(int(sys.argv[2]))
    else:
        hold(sys.argv[2:])

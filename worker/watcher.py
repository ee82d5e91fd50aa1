"""A process beside a supervisor: it ends the children when the supervisor is gone."""

import contextlib
import os
import subprocess
import sys

from worker import leash


class Watcher:
    """The process, and the pipe on which it is told of children and of the end."""

    def __init__(self) -> None:
        """Start it: it is there before the first child."""
        self._process = subprocess.Popen(
            [*leashed("watch"), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def tell(self, line: str) -> None:
        """Say that a child's group is there (+PID) or gone (-PID)."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """Let it end, and wait until it has. Safe to be called twice."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()


def leashed(role: str) -> list[str]:
    """Return the beginning of a command: the program `worker.leash` in one of its roles."""
    # By path and isolated (-I -S): as a module it would import the whole worker first.
    return [sys.executable, "-I", "-S", leash.__file__, role]

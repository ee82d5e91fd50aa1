"""The supervisor: starts named child processes, shows what they say, restarts, stops them all.

Each child leads a session and process group of its own, so that Ctrl-C in the terminal reaches only
us and stopping one ends its pool too. None outlives us (see `worker.leash`). Use one supervisor
from one thread.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker import leash, watcher
from worker.watcher import Watcher

POLL_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""Before a dead child is started again: doubled from the first to the longest."""

MOST_DOUBLINGS = 16
"""A power of two that grew for days would not fit a number any more."""

STEADY_SECONDS = 60.0
"""A child that lived this long and then died starts over with the first pause."""

KILL_SECONDS = 5.0
"""How long the kernel may take to end a process after SIGKILL."""


class ChildFailed(RuntimeError):
    """A child ended, or was not ready in time, before it had ever been ready."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs.

    Args:
        name: shown before each of its lines; unique in a supervisor.
        command: the program and its arguments.
        environment: over ours.
        is_ready: tells whether the child, which runs, is ready for its work.
        before_start: done before each start, also those after a death.
        patience: seconds between SIGTERM and SIGKILL when it is stopped.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_ready: Callable[[], bool] = lambda: True
    before_start: Callable[[], None] = lambda: None
    patience: float = 10.0


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started: float
    pump: threading.Thread
    deaths: int = 0
    start_again_at: float | None = None


Say = Callable[[str, str], None]
"""Shows one line of a child: its name, the line without its end."""


class Supervisor:
    """Child processes by name. Leave the block of `running` and they are gone."""

    def __init__(self, *, say: Say, tell: Callable[[str], None], cwd: Path) -> None:
        """Use `running` instead, which also stops what was started."""
        self._say = say
        self._tell = tell
        self._cwd = cwd
        self._children: dict[str, _Child] = {}
        self._watcher = Watcher()

    def start(self, program: Program) -> None:
        """Start a child; does not wait for it to be ready."""
        if program.name in self._children:
            raise ValueError(f"a child named {program.name!r} runs already")
        self._children[program.name] = self._spawn(program)

    def wait_until_ready(
        self, name: str, *, seconds: float = 60.0, unless: threading.Event | None = None
    ) -> None:
        """Return when the child is ready, or when `unless` is set.

        Raises:
            ChildFailed: it ended before, or took longer.
        """
        child = self._children[name]
        deadline = time.monotonic() + seconds
        while True:
            status = child.process.poll()
            if status is not None:
                child.pump.join(KILL_SECONDS)  # what it said comes before what we say
                raise ChildFailed(f"{name} ended with {_status(status)} before it was ready")
            if child.program.is_ready() or (unless is not None and unless.is_set()):
                return
            if time.monotonic() > deadline:
                raise ChildFailed(f"{name} was not ready within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def pid(self, name: str) -> int:
        """Return the process id of a child (of a worker's main process, not of its pool)."""
        return self._children[name].process.pid

    def pids(self) -> dict[str, int]:
        """Return the process ids of all children that run, by name."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process.poll() is None
        }

    def tend(self) -> None:
        """Start again, when its pause is over, each child that has died. Call it often."""
        for name, child in self._children.items():
            if child.start_again_at is None:
                self._notice_death(name, child)
            elif time.monotonic() >= child.start_again_at:
                replacement = self._spawn(child.program)
                replacement.deaths = child.deaths
                self._children[name] = replacement

    def tend_until(self, over: threading.Event) -> None:
        """Tend the children until the event is set."""
        while not over.wait(POLL_SECONDS):
            self.tend()

    def stop(self, *names: str) -> list[str]:
        """Stop children at the same time: SIGTERM, their patience, SIGKILL for each group.

        Returns the names of those that there were.
        """
        there = [name for name in names if name in self._children]
        self._stop([self._children.pop(name) for name in there])
        return there

    def stop_all(self) -> None:
        """Stop all children at the same time, each with its own patience."""
        children = list(self._children.values())
        self._children.clear()
        self._stop(children)

    def close(self) -> None:
        """Stop what runs, and the watcher. Safe to be called, or interrupted, twice."""
        self.stop_all()
        self._watcher.close()

    def _spawn(self, program: Program) -> _Child:
        program.before_start()
        process = subprocess.Popen(
            [*watcher.leashed("hold"), *program.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._cwd,
            env={**os.environ, **program.environment},
            start_new_session=True,
        )
        pump = threading.Thread(target=self._pump, args=(program.name, process), daemon=True)
        child = _Child(program, process, time.monotonic(), pump)
        pump.start()
        # Only what the watcher knows of may run.
        self._watcher.tell(f"+{process.pid}")
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(leash.GO)
                process.stdin.close()
        return child

    def _pump(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout:
            for line in process.stdout:
                self._say(name, line.decode(errors="replace").rstrip())

    def _notice_death(self, name: str, child: _Child) -> None:
        status = child.process.poll()
        if status is None:
            return
        self._bury(child)
        lived = time.monotonic() - child.started
        child.deaths = 1 if lived >= STEADY_SECONDS else child.deaths + 1
        pause = pause_after(child.deaths)
        child.start_again_at = time.monotonic() + pause
        self._tell(f"{name} ended with {_status(status)}; starting it again in {pause:.0f} s")

    def _stop(self, children: list[_Child]) -> None:
        begun = time.monotonic()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
        for child in children:
            remaining = begun + child.program.patience - time.monotonic()
            try:
                child.process.wait(max(remaining, 0))
            except subprocess.TimeoutExpired:
                self._tell(f"{child.program.name} did not stop in time: killed")
            finally:
                self._bury(child)

    def _bury(self, child: _Child) -> None:
        """End what is left of a child's group: a dead worker's pool does not die by itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(KILL_SECONDS)
        child.pump.join(KILL_SECONDS)
        self._watcher.tell(f"-{child.process.pid}")


@contextlib.contextmanager
def running(*, say: Say, tell: Callable[[str], None], cwd: Path) -> Iterator[Supervisor]:
    """Make a supervisor and stop its children at the end of the block, whatever ends it.

    Args:
        say: shows a line of a child; called from several threads.
        tell: shows what the supervisor itself has to say.
        cwd: the folder the children run in.
    """
    supervisor = Supervisor(say=say, tell=tell, cwd=cwd)
    try:
        yield supervisor
    finally:
        supervisor.close()


def pause_after(deaths: int) -> float:
    """Return the seconds before a child is started again that has died so often in a row."""
    doublings = min(deaths - 1, MOST_DOUBLINGS)
    return min(FIRST_PAUSE_SECONDS * 2.0**doublings, LONGEST_PAUSE_SECONDS)


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

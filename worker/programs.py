"""The processes of a running system as commands: workers, beat and Flower, with their flags."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.queues import Queue
from worker import settings

OPTIONS = ("--quiet", "--app", "worker")

CELERY = (sys.executable, "-m", "celery", *OPTIONS)

FLOWER = {
    "logging": "none",  # ours are set up
    # Its own ways to end workers and send tasks are off: operators have `billing` for that.
    "read_only": "True",
    "tasks_columns": "name,uuid,state,kwargs,retries,received,runtime,worker",
    # Beat alone rings three times a second: the last hour and a half of an idle system, in 200 MB.
    "max_tasks": "20000",
}
"""Flower's options, where no FLOWER_… variable says otherwise."""

FLOWER_KEPT = {
    "persistent": "True",
    # Also when it ends. While it writes, a second for so many tasks, it answers nobody.
    "state_save_interval": "300000",
}
"""Beside `db`, the file: in milliseconds."""

SOFT = {"REMAP_SIGTERM": "SIGQUIT"}
"""Celery reads it when it is imported: SIGTERM then ends a worker within its soft shutdown."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command and what it needs in its environment beside ours."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def become(self) -> None:
        """Replace this process by the command. Does not return."""
        # Celery puts the current folder first: let that be the one this very code is in.
        os.chdir(settings.ROOT)
        os.execve(self.command[0], self.command, {**os.environ, **self.environment})  # noqa: S606


def worker(
    *, queues: Iterable[Queue], concurrency: int | None = None, name: str | None = None
) -> Invocation:
    """Return a worker for some queues.

    Args:
        queues: what it consumes, at least one.
        concurrency: processes of its pool; None for one a CPU.
        name: what Flower calls it, before the host's name; None for the queues joined by "-".
    """
    chosen = list(queues)
    flags = [
        f"--queues={','.join(chosen)}",
        f"--hostname={name or '-'.join(chosen)}@%h",
        # Mingle waits a second at each start for what other workers have revoked, gossip makes
        # each worker read the events of all others; nothing here uses either. Heartbeats stay:
        # Flower and the alive file live on them.
        "--without-mingle",
        "--without-gossip",
        "--task-events",
    ]
    if concurrency is not None:
        flags.append(f"--concurrency={concurrency}")
    return Invocation((*CELERY, "worker", *flags), SOFT)


def beat(*, state: Path | None = None) -> Invocation:
    """Return beat.

    Args:
        state: the file in which it remembers what it has rung, in a folder that is there; None
            forgets it at its end.
    """
    return Invocation((*CELERY, "beat", *([] if state is None else [f"--schedule={state}"])))


def flower(*, address: str, port: int, state: Path | None = None) -> Invocation:
    """Return Flower on an address and port; FLOWER_… variables come before our options.

    Args:
        address: where it listens.
        port: the same.
        state: the file in which what it has seen outlives it, in a folder that is there; None
            forgets it.
    """
    kept = {} if state is None else {**FLOWER_KEPT, "db": str(state)}
    chosen = {
        name: value
        for name, value in {**FLOWER, **kept}.items()
        if f"FLOWER_{name.upper()}" not in os.environ
    }
    flags = {"address": address, "port": str(port), **chosen}
    return Invocation(
        (
            sys.executable,
            "-m",
            "worker.flower",
            *OPTIONS,
            "flower",
            *(f"--{name}={value}" for name, value in flags.items()),
        )
    )

"""The processes of a running system as commands: workers, beat and Flower, with their flags."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.queues import Queue
from worker import settings

CELERY = (sys.executable, "-m", "celery", "--quiet", "--app", "worker")

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


def beat() -> Invocation:
    """Return beat. It keeps no schedule file: what is due stands in the database."""
    return Invocation((*CELERY, "beat"))


def flower(*, address: str, port: int) -> Invocation:
    """Return Flower on an address and port; more options through FLOWER_… variables."""
    return Invocation((*CELERY, "flower", f"--address={address}", f"--port={port}"))

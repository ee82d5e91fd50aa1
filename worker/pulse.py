"""Signs of life: a file that health checks look at, and when beat was last heard.

Beat rings once a second (`deliver what is due`). A worker that hears a ring remembers when, and
`billing doctor` asks the workers: so beat is seen to be alive from any host, whatever the broker.
"""

import time
from pathlib import Path
from typing import Any

from celery import signals
from celery.worker.control import inspect_command

from worker import settings

SENT_BY_BEAT = "celery_beat_task"
"""Header that Celery's beat puts on every message."""

TOUCH_SECONDS = 2.0
"""How often beat touches the file at most; a worker does so with each heartbeat, every 2 s."""

_alive_file: Path | None = None
_touched = 0.0
_heard: float | None = None


@inspect_command()
def beat_heard(_state: Any) -> dict[str, float | None]:
    """Return how many seconds ago this worker got a message from beat; None for never."""
    return {"seconds_ago": None if _heard is None else round(time.monotonic() - _heard, 1)}


@signals.worker_ready.connect
def _begin(**_: Any) -> None:
    global _alive_file  # noqa: PLW0603 (the process has one)
    _alive_file = settings.load().alive_file
    _touch()


@signals.beat_init.connect
def _begin_beat(**_: Any) -> None:
    _begin()
    # In beat alone: what a worker's child sends proves nothing of its main process.
    signals.after_task_publish.connect(_live, weak=False)


@signals.heartbeat_sent.connect
def _live(**_: Any) -> None:
    if time.monotonic() - _touched >= TOUCH_SECONDS / 2:
        _touch()


def hear_beat() -> None:
    """Remember that beat rang just now."""
    global _heard  # noqa: PLW0603 (the process has one)
    _heard = time.monotonic()


@signals.task_received.connect
def _listen(request: Any = None, **_: Any) -> None:
    if request is not None and request.request_dict.get(SENT_BY_BEAT):
        hear_beat()


def _touch() -> None:
    global _touched  # noqa: PLW0603 (the process has one)
    _touched = time.monotonic()
    if _alive_file is not None:
        _alive_file.touch()

"""What Flower knows of tasks and workers, and of nobody's secrets.

A worker shows arguments masked, and so do our own producers. A producer of another make that tells
of what it sends (Celery's `task_send_sent_event`) shows them as they are, so they are masked here.
"""

import ast
import contextlib
from typing import Any

import flower.events

from worker import masking

SENT = "task-sent"

SHOWN = ("args", "kwargs")


class State(flower.events.EventsState):  # type: ignore[misc]
    """What it has seen: kept over a restart under the name of this class."""

    def event(self, event: dict[str, Any]) -> None:
        """Take an event in."""
        if event["type"] == SENT:
            # It may come behind what the worker says, whose word counts.
            known = self.tasks.get(event.get("uuid"))
            is_received = known is not None and known.received
            for name in SHOWN:
                text = event.pop(name, None)
                if text is not None and not is_received:
                    event[name] = masked(text)
        super().event(event)


def masked(text: object) -> str:
    """Return the text of arguments without secrets; of one that can not be read nothing is left."""
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return masking.masked(ast.literal_eval(str(text)))
    return masking.MASK

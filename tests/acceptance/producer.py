"""A producer that loses nothing: it keeps each call until its answer has come.

A message is no safe place for the only copy of a fact. A call whose answer does not come is sent
again; the tasks know it by its idempotency keys.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tasks import contract

Call = tuple[str, dict[str, Any]]
"""A task's name and its arguments."""

RESEND_SECONDS = 2.5
"""Without an answer for so long, a call is sent again."""

GIVE_UP_SECONDS = 200.0
POLL_SECONDS = 0.02
LOST = frozenset({"WorkerLostError", "TimeLimitExceeded"})
"""Failures that say nothing about the call: its worker died each time."""

BROKER = ("redis.", "kombu.")
"""Where the errors come from that say nothing either: its answer could not be kept."""


class CallFailed(AssertionError):
    """A task answered with an error."""


@dataclass(slots=True)
class _Kept:
    place: int
    call: Call
    message_ids: list[str]
    sent_at: float


class Producer:
    """Sends by name with a Celery application of its own, as another program would."""

    def __init__(self, broker_url: str) -> None:
        """Connects when it first sends."""
        self._app = Celery("producer", broker=broker_url, set_as_current=False)
        self._app.conf.broker_transport_options = {"socket_timeout": 5}
        # Answers are looked up, not listened for: a listener would have to survive the broker.
        self._answers = redis.Redis.from_url(broker_url, socket_timeout=5)
        self.resent = 0

    def send(self, name: str, arguments: dict[str, Any], *, queue: str | None = None) -> str:
        """Send one message and return its id; the queue is the task's own."""
        chosen = queue or contract.REGISTRY[name].queue.value
        sent = self._app.send_task(name, kwargs=arguments, queue=chosen, retry=False)
        return str(sent.id)

    def find_answer(self, message_id: str) -> dict[str, Any] | None:
        """Return how a message's task ended: `status` SUCCESS or FAILURE, and `result`."""
        stored = self._answers.get(f"celery-task-meta-{message_id}")
        if not isinstance(stored, bytes):
            return None
        answer: dict[str, Any] = json.loads(stored)
        return answer if answer["status"] in {"SUCCESS", "FAILURE"} else None

    def send_all(
        self,
        calls: Sequence[Call],
        *,
        at_once: int = 8,
        pause: float = 0.0,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[Any]:
        """Send every call until it has been answered; return the answers in the order of the calls.

        Args:
            at_once: calls sent and not yet answered.
            pause: seconds between two sends.
            meanwhile: called all the time.

        Raises:
            CallFailed: a task refused its call, or an answer did not come at all.
        """
        waiting = deque(enumerate(calls))
        answers: list[Any] = [None] * len(calls)
        open_calls: dict[int, _Kept] = {}
        next_send = 0.0
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while waiting or open_calls:
            meanwhile()
            if waiting and len(open_calls) < at_once and time.monotonic() >= next_send:
                place, call = waiting.popleft()
                open_calls[place] = _Kept(place, call, [], 0.0)
                next_send = time.monotonic() + pause
            for kept in list(open_calls.values()):
                if self._is_answered(kept, answers):
                    del open_calls[kept.place]
            if time.monotonic() > give_up:
                raise CallFailed(f"no answer: {[kept.call[0] for kept in open_calls.values()]}")
            time.sleep(POLL_SECONDS)
        return answers

    def close(self) -> None:
        """Close the connections."""
        self._app.close()
        self._answers.close()

    def _is_answered(self, kept: _Kept, answers: list[Any]) -> bool:
        try:
            for message_id in kept.message_ids:
                answer = self.find_answer(message_id)
                if answer is not None and self._accepts(kept, message_id, answer):
                    answers[kept.place] = answer["result"]
                    return True
            self._send_if_due(kept)
        except (OperationalError, redis.RedisError, OSError):
            pass  # The broker is away: what was not answered is sent again later.
        return False

    def _send_if_due(self, kept: _Kept) -> None:
        if kept.message_ids and time.monotonic() < kept.sent_at + RESEND_SECONDS:
            return
        self.resent += bool(kept.message_ids)
        kept.sent_at = time.monotonic()
        kept.message_ids.append(self.send(*kept.call))

    def _accepts(self, kept: _Kept, message_id: str, answer: dict[str, Any]) -> bool:
        if answer["status"] == "SUCCESS":
            return True
        error = answer["result"]
        if error["exc_type"] in LOST or error["exc_module"].startswith(BROKER):
            kept.message_ids.remove(message_id)
            kept.sent_at = 0.0
            return False
        raise CallFailed(f"{kept.call[0]}: {error}")

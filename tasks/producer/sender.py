"""Chunks of events on their way: sent, and sent again until the answer of each has come."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from tasks.producer import courier
from tasks.producer.segments import Segment

MOST_FAILURES = 10
"""How often workers may fail at a chunk before it is given up. Each time they keep what failed in
rejected_messages, so that nothing is lost by giving up."""

SHORTEST_PAUSE = 0.25
"""Seconds before the second try, doubled for each further one, times a random 0.5 to 1.5."""

LONGEST_PAUSE = 30.0

LONGEST_PATIENCE = 600.0
"""Seconds. Waiting for an answer doubles with each resending: a queue that is merely long must not
be made longer without end."""

FIRST_LOOK = 0.005
SLOWEST_LOOK = 0.25
"""Seconds between looks for an answer; each is half as long again as the one before."""

PERMANENT = frozenset({"InvalidMessage", "NotRegistered"})
"""Errors that the same message would meet again."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Chunk:
    """Events that go in one message.

    Args:
        count: how many events.
        size: bytes of their JSON.
        kept: their lines; None when they are on disk, in `segment`.
    """

    count: int
    size: int
    kept: list[bytes] | None
    segment: Segment | None = None
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent: int = 0
    failed: int = 0
    send_at: float = 0.0
    look_at: float = 0.0
    look_pause: float = FIRST_LOOK

    def lines(self) -> list[bytes]:
        """Return the events as JSON, in the order in which they were recorded."""
        if self.kept is not None:
            return self.kept
        return self.segment.lines() if self.segment is not None else []


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a chunk: the worker's answer, or the name of the error it was given up for."""

    answer: dict[str, Any] | None
    error: str = ""


class Sender:
    """Used by one thread. Everything that waits for the network happens in `step`.

    Args:
        carrier: the connection.
        patience: seconds to wait for the first answer of a chunk.
        settled: is told of each chunk that is done with.
    """

    def __init__(
        self,
        carrier: courier.Courier,
        *,
        patience: float,
        settled: Callable[[Chunk, Given], None],
    ) -> None:
        self._carrier = carrier
        self._patience = patience
        self._settled = settled
        self._under_way: list[Chunk] = []
        self._outages = 0
        self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._under_way)

    def take(self, chunk: Chunk) -> None:
        """Make a chunk be sent in the next step."""
        self._under_way.append(chunk)

    def step(self) -> float | None:
        """Do what is due and return when there is more to do, by the monotonic clock."""
        if time.monotonic() >= self._quiet_until:
            try:
                for chunk in tuple(self._under_way):
                    self._advance(chunk)
                    self._note_success()
            except courier.FAILURES as error:
                self._note_outage(error)
        if not self._under_way:
            return None
        due = min(min(chunk.send_at, chunk.look_at) for chunk in self._under_way)
        return max(due, self._quiet_until)

    def close(self) -> None:
        """Close the connection."""
        self._carrier.close()

    def _advance(self, chunk: Chunk) -> None:
        now = time.monotonic()
        if chunk.sent and now >= chunk.look_at:
            self._look(chunk, now)
        elif now >= chunk.send_at:
            self._send(chunk)

    def _send(self, chunk: Chunk) -> None:
        try:
            lines = chunk.lines()
        except OSError as error:
            # The others must not wait for a disk that gives one chunk back no more.
            log.warning("usage_producer.unreadable", file=str(chunk.segment), reason=error.strerror)
            chunk.send_at = chunk.look_at = time.monotonic() + LONGEST_PAUSE
            return
        self._carrier.send(chunk.task_id, lines)
        if chunk.sent:
            log.info("usage_producer.resent", events=chunk.count, times=chunk.sent)
        chunk.sent += 1
        now = time.monotonic()
        patience = min(LONGEST_PATIENCE, self._patience * 2 ** min(chunk.sent - 1, 10))
        chunk.send_at = now + patience * random.uniform(1.0, 1.25)  # noqa: S311 (jitter)
        chunk.look_pause = FIRST_LOOK
        chunk.look_at = now + FIRST_LOOK

    def _look(self, chunk: Chunk, now: float) -> None:
        answer = self._carrier.look(chunk.task_id)
        if answer is None:
            chunk.look_pause = min(SLOWEST_LOOK, chunk.look_pause * 1.5)
            chunk.look_at = now + chunk.look_pause
            if now >= chunk.send_at:
                # The same id: whichever of the two messages is answered first will do.
                self._send(chunk)
            return
        self._carrier.forget(chunk.task_id)
        if answer.kind == "done" and _is_of(chunk, answer.content):
            self._settle(chunk, Given(answer.content))
        else:
            self._fail(chunk, str(answer.content) if answer.kind == "failed" else "NoVerdicts")

    def _fail(self, chunk: Chunk, error: str) -> None:
        chunk.failed += 1
        if error in PERMANENT or chunk.failed >= MOST_FAILURES:
            self._settle(chunk, Given(None, error))
            return
        log.warning("usage_producer.failed", events=chunk.count, error=error, times=chunk.failed)
        # Under another id: the old answer must not be taken for the new one's.
        chunk.task_id = str(uuid.uuid4())
        chunk.send_at = time.monotonic() + _pause(chunk.failed)
        chunk.look_at = float("inf")

    def _settle(self, chunk: Chunk, given: Given) -> None:
        self._under_way.remove(chunk)
        self._settled(chunk, given)

    def _note_outage(self, error: Exception) -> None:
        if not self._outages:
            log.warning("usage_producer.broker_away", reason=type(error).__name__)
        self._outages += 1
        self._quiet_until = time.monotonic() + _pause(self._outages)

    def _note_success(self) -> None:
        if self._outages:
            log.info("usage_producer.broker_back", tries=self._outages)
        self._outages = 0


def _pause(tries: int) -> float:
    longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(tries, 10))
    return longest * random.uniform(0.5, 1.5)  # noqa: S311 (jitter)


def _is_of(chunk: Chunk, answer: Any) -> bool:
    """Tell whether an answer has a verdict for each event of a chunk."""
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("verdicts"), list)
        and len(answer["verdicts"]) == chunk.count
        and isinstance(answer.get("refused"), list)
    )

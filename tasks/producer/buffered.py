"""The buffered producer: call `record` for each event; it sends them in chunks, and exactly once.

    with UsageProducer("redis://127.0.0.1:6379/0") as producer:
        producer.record(tenant_id="acme", metric="input_tokens", amount=1250)

A chunk is kept until the answer of its task has come, and sent again if none comes: neither a
killed worker nor a flushed or restarted broker loses an event, and since each carries its key from
the moment it is recorded, none counts twice. With `spill` the death of this process loses none
either: they are on disk, and the next producer on that folder sends them.
"""

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from tasks import clock
from tasks.producer import line, outcome
from tasks.producer.buffer import Buffer
from tasks.producer.courier import Courier
from tasks.producer.limits import Limits
from tasks.producer.outcome import RefusedEvent, Statistics
from tasks.producer.sender import Chunk, Given, Sender
from tasks.signing import MessageKeys

CLOSE_SECONDS = 30.0
"""How long the end of a `with` block or of the process waits for answers."""

SURPRISE_PAUSE = 1.0
"""Seconds before the thread goes on after an error that nobody foresaw."""

log = structlog.get_logger(__name__)


class BufferFull(RuntimeError):
    """There is no room for the event: answers do not come as quickly as events do."""


class ProducerClosed(RuntimeError):
    """The producer was closed; make another one."""


class EventsLeft(RuntimeError):
    """The producer was closed before every answer had come, and nothing on disk keeps the rest."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} events have no answer; keep what `unanswered()` returns and record it again "
            "with the same keys, or give the producer a folder to `spill` to"
        )
        self.count = count


class UsageProducer:
    """Thread-safe; one background thread. A forked child starts with an empty one of its own.

    Args:
        broker: the broker's URL.
        answers: the URL of the workers' result backend; the broker, if that is a Redis.
        limits: see Limits.
        block_seconds: how long `record` waits for room before it raises BufferFull; 0 for not.
        on_refused: is called, on the producer's thread, with each event that was refused.
        keys: what messages are signed with, where the workers demand it; see
            `MessageKeys.parse`.
        spill: a folder on a local disk where events are kept until they are answered. May be
            shared by any number of processes.

    Raises:
        NoAnswers: no result backend is known.
    """

    def __init__(
        self,
        broker: str,
        *,
        answers: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 (immutable)
        block_seconds: float = 30.0,
        on_refused: Callable[[RefusedEvent], None] | None = None,
        spill: Path | None = None,
        keys: MessageKeys | None = None,
    ) -> None:
        self._broker, self._answers, self._keys = broker, answers, keys
        # Connects to nothing: what can not work is refused here, and not on the thread.
        Courier(broker, answers, keys)
        self._limits = limits
        self._block_seconds = block_seconds
        self._on_refused = on_refused
        self._spill = spill
        self._begin()
        with self._changed:
            self._buffer.recover()
            if self._buffer.can_send():
                self._ensure_thread()
        _live.add(self)

    def record(
        self,
        *,
        tenant_id: str,
        metric: str,
        amount: Decimal | int | str,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Take one event and return its idempotency key. Rarely waits, see `block_seconds`.

        Args:
            tenant_id: who used it, 1 to 64 characters.
            metric: what was used, 1 to 64 characters.
            amount: how much, a decimal; no float.
            at: when; now if absent.
            idempotency_key: 1 to 128 characters; a new one if absent.
            metadata: what JSON can hold, at most 16 KiB.

        Raises:
            InvalidEvent: it can not be written as JSON.
            BufferFull: there was no room in time; the event was not taken.
            ProducerClosed: after `close`.
            OSError: the spill folder takes nothing; the event was not taken.
        """
        key, written = line.write(
            tenant_id=tenant_id,
            metric=metric,
            amount=amount,
            at=at,
            idempotency_key=idempotency_key,
            metadata=metadata,
            now=clock.now(),
        )
        with self._changed:
            self._wait_for_room(len(written))
            was_open = self._buffer.closes_at is not None
            self._buffer.append(written)
            self._ensure_thread()
            # Between a chunk's first event and its last the thread has nothing to see.
            if not was_open or self._buffer.can_send():
                self._changed.notify_all()
        return key

    def flush(self, timeout: float = CLOSE_SECONDS) -> int:
        """Send what is there, wait for the answers, and return how many events have none yet."""
        with self._changed:
            self._buffer.seal()
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: not self._buffer.count.pending or self._stopping, timeout
            )
            return self._buffer.count.pending

    def close(self, timeout: float = CLOSE_SECONDS) -> Statistics:
        """Take no more events, wait up to `timeout` seconds for answers, and end the thread.

        What is left, as `pending` in what comes back, is on disk with a `spill`, and otherwise only
        in `unanswered()`. Closing twice is harmless.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closed = True
        self.flush(timeout)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._end_thread(max(0.1, deadline - time.monotonic())):
            self._buffer.close()
        _live.discard(self)
        return self.statistics

    @property
    def statistics(self) -> Statistics:
        """Return the counts as they are now."""
        with self._changed:
            return self._buffer.count

    def unanswered(self) -> list[dict[str, Any]]:
        """Return the events without an answer, oldest first; on a closed producer, what is left."""
        with self._changed:
            return self._buffer.unanswered()

    def __enter__(self) -> Self:
        """Return the producer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it.

        Raises:
            EventsLeft: answers are missing and there is no spill, unless an error is on its way.
        """
        left = self._close_telling()
        if left and kind is None and self._spill is None:
            raise EventsLeft(left)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._buffer = Buffer(self._limits, self._spill)
        self._thread: threading.Thread | None = None
        self._closed = self._stopping = False

    def _start_over(self) -> None:
        """In a forked child, where nothing else runs yet."""
        self._buffer.abandon()
        self._begin()

    def _close_telling(self) -> int:
        left = self.close().pending
        if left:
            log.error("usage_producer.left", events=left, on_disk=self._spill is not None)
        return left

    def _end_thread(self, seconds: float) -> bool:
        """Tell whether it has ended. One that hangs in the network still needs its files."""
        if self._thread is None:
            return True
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _wait_for_room(self, size: int) -> None:
        # Our own thread, in `on_refused`, would wait for itself.
        patience = 0.0 if threading.current_thread() is self._thread else self._block_seconds
        deadline = time.monotonic() + patience
        while True:
            if self._closed:
                raise ProducerClosed(ProducerClosed.__doc__)
            if self._buffer.has_room(size):
                return
            self._buffer.seal()
            self._changed.notify_all()
            left = deadline - time.monotonic()
            if left <= 0:
                raise BufferFull(
                    f"{self._buffer.count.pending} events wait for answers, and at most "
                    f"{self._limits.pending_bytes} bytes of them may; is a worker running?"
                )
            self._changed.wait(left)

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="usage-producer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        sender = Sender(
            Courier(self._broker, self._answers, self._keys),
            patience=self._limits.answer_seconds,
            settled=self._settle,
        )
        due: float | None = None
        while self._wait_until(due, sender):
            try:
                due = sender.step()
            except Exception as error:  # noqa: BLE001 (events are kept by this thread going on)
                # Not the error's text: it may quote an event.
                log.warning("usage_producer.surprise", error=type(error).__name__)
                due = time.monotonic() + SURPRISE_PAUSE
        sender.close()

    def _wait_until(self, due: float | None, sender: Sender) -> bool:
        """Wait until there is something to do; False when it is time to end."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                closes_at = self._buffer.closes_at
                if closes_at is not None and now >= closes_at:
                    self._buffer.seal()
                    closes_at = None
                if self._hand_over(sender) or (due is not None and now >= due):
                    return True
                wakes = [instant for instant in (due, closes_at) if instant is not None]
                self._changed.wait(min(wakes) - now if wakes else None)
            return False

    def _hand_over(self, sender: Sender) -> bool:
        found = False
        while (chunk := self._buffer.take()) is not None:
            sender.take(chunk)
            found = True
        return found

    def _settle(self, chunk: Chunk, given: Given) -> None:
        refused = list(outcome.refused(chunk, given))
        for each in refused:
            self._tell_refused(each)
        verdicts = given.answer["verdicts"] if given.answer is not None else []
        with self._changed:
            self._buffer.settle(
                chunk,
                accepted=verdicts.count("accepted"),
                duplicate=verdicts.count("duplicate"),
                refused=len(refused),
            )
            self._changed.notify_all()

    def _tell_refused(self, refused: RefusedEvent) -> None:
        log.warning(
            "usage_producer.refused",
            verdict=refused.verdict,
            field=refused.field,
            rejected_message_id=refused.rejected_message_id,
        )
        if self._on_refused is not None:
            try:
                self._on_refused(refused)
            except Exception as error:  # noqa: BLE001 (a caller's fault must not end the sending)
                log.warning("usage_producer.on_refused_failed", error=type(error).__name__)


_live: "weakref.WeakSet[UsageProducer]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for producer in tuple(_live):
        producer._close_telling()  # noqa: SLF001 (the module's own)


def _start_all_over() -> None:
    for producer in tuple(_live):
        with contextlib.suppress(OSError):
            producer._start_over()  # noqa: SLF001 (the module's own)


os.register_at_fork(after_in_child=_start_all_over)

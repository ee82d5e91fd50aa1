"""Attempts under way: a bounded number at once, each slot taken again as soon as it is free."""

import datetime as dt
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from models import database
from models.rules import ids
from models.store.claim import Claimed
from tasks import config
from webhooks import transport
from webhooks.retry import Outcome

SLOTS = 32
"""Attempts on the wire at once in one process. A peer that takes 50 ms costs a slot 50 ms."""

AHEAD = 64
"""Deliveries claimed beyond the slots, so that a slot that is free need not wait for a claim."""

LINGER = 0.005
"""Seconds to wait for more once an attempt has ended: a few results cost the database what one
does."""

log = structlog.get_logger(__name__)


class WaitingInsideTransaction(RuntimeError):
    """Somebody was about to wait for the network with a database transaction open."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A claimed delivery and its attempt: None when it was not started."""

    claimed: Claimed
    began: dt.datetime
    attempt: transport.Attempt | None


class Window:
    """Sends claimed deliveries on threads and hands back what has ended, in the order it ends.

    A slow peer keeps its own slots and nobody else's: no chunk waits for its slowest member.
    """

    def __init__(self, sender: transport.Sender, *, lease: dt.timedelta) -> None:
        self._sender = sender
        # What has waited so long for a slot that its lease could end in mid-attempt is not begun.
        self._longest_wait = (lease - 2 * config.current().send_timeout).total_seconds()
        self._threads = ThreadPoolExecutor(SLOTS, thread_name_prefix="webhook")
        self._under_way: dict[Future[Finished], Claimed] = {}
        self._ended: queue.SimpleQueue[Future[Finished]] = queue.SimpleQueue()

    @property
    def under_way(self) -> int:
        """Deliveries taken and not yet handed back."""
        return len(self._under_way)

    @property
    def room(self) -> int:
        """How many more may be taken."""
        return SLOTS + AHEAD - len(self._under_way)

    def submit(self, claimed: Claimed, secrets: Sequence[str]) -> None:
        """Begin an attempt as soon as a slot is free."""
        start_by = time.monotonic() + self._longest_wait
        future = self._threads.submit(self._attempt, claimed, secrets, start_by)
        self._under_way[future] = claimed
        future.add_done_callback(self._ended.put)

    def collect(self, *, patience: float) -> list[Finished]:
        """Return what has ended; wait up to `patience` seconds for the first if nothing has.

        Raises:
            WaitingInsideTransaction: a database transaction is open.
        """
        if database.in_transaction():
            raise WaitingInsideTransaction(WaitingInsideTransaction.__doc__)
        finished: list[Finished] = []
        until = time.monotonic() + patience
        while self._under_way:
            try:
                future = self._ended.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if not finished:
                until = time.monotonic() + min(patience, LINGER)
            finished.append(self._hand_back(future))
        return finished

    def stop_waiting(self) -> None:
        """Begin no more attempts: what waits for a slot ends as not started."""
        for future in self._under_way:
            future.cancel()

    def close(self) -> None:
        """Let the threads go without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hand_back(self, future: Future[Finished]) -> Finished:
        claimed = self._under_way.pop(future)
        try:
            return future.result()
        except CancelledError:
            return Finished(claimed, _now(), None)

    def _attempt(self, claimed: Claimed, secrets: Sequence[str], start_by: float) -> Finished:
        began = _now()
        if time.monotonic() > start_by:
            return Finished(claimed, began, None)
        try:
            attempt = self._sender.send(_request(claimed, secrets, began))
        except Exception as error:
            # Ours, not the peer's; it costs an attempt, so that it can not go round for ever.
            log.exception("attempt.broke", delivery_id=claimed.delivery_id)
            attempt = transport.Attempt(
                Outcome.PROTOCOL_ERROR, None, 0, "", None, f"not sent: {type(error).__name__}"
            )
        return Finished(claimed, began, attempt)


def _request(claimed: Claimed, secrets: Sequence[str], began: dt.datetime) -> transport.Request:
    return transport.Request(
        url=claimed.url,
        message_id=ids.event_id(claimed.message_id),
        topic=claimed.type,
        attempt_number=claimed.attempt_count + 1,
        payload_version=claimed.schema_version,
        timestamp=int(began.timestamp()),
        body=claimed.body,
        secrets=secrets,
        custom_headers=claimed.headers,
    )


_sender: transport.Sender | None = None
_sender_of: tuple[int, config.Config] | None = None
_sender_lock = threading.Lock()


def sender() -> transport.Sender:
    """Return this process's sender with its open connections; never one from before a fork."""
    global _sender, _sender_of
    wanted = (os.getpid(), config.current())
    with _sender_lock:
        if _sender is None or _sender_of != wanted:
            _close()
            _sender, _sender_of = _new_sender(), wanted
        return _sender


def close_sender() -> None:
    """Close this process's connections to endpoints. The next run opens new ones."""
    with _sender_lock:
        _close()


def _close() -> None:
    global _sender, _sender_of  # noqa: PLW0603 (one sender a process)
    # One inherited through a fork belongs to the parent: forget it, do not close it.
    if _sender is not None and _sender_of is not None and _sender_of[0] == os.getpid():
        _sender.close()
    _sender = _sender_of = None


def _new_sender() -> transport.Sender:
    chosen = config.current()
    return transport.Sender(
        policy=chosen.address_policy, deadline_seconds=chosen.send_timeout.total_seconds()
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)

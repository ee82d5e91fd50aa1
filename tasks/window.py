"""Attempts under way: a bounded number at once, each slot taken again as soon as it is free."""

import datetime as dt
import os
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from models import database
from models.rules import ids
from models.store.claim import Claimed
from tasks import config, tracing
from tasks.tracing import Kind
from webhooks import transport
from webhooks.retry import Outcome

SLOTS = 32
"""Attempts on the wire at once in one process. A peer that takes 50 ms costs a slot 50 ms."""

AHEAD = 64
"""Deliveries claimed beyond the slots, so that a slot that is free need not wait for a claim."""

MOST_AHEAD = 448
"""The same while attempts end quickly: a second's worth, so that claims are few and large."""

PACE_SECONDS = 1.0
"""Over how long what ended is counted."""

REFILL = 6
"""It is worth claiming more once a sixth of the window is free: 16 places of the smallest."""

OWNER_SHARE = 4
"""One owner gets a quarter of the slots, and of what is claimed ahead. Each process keeps to that
by itself: a quarter of each one's slots is a quarter of all."""

LINGER = 0.005
"""Seconds to wait for more once an attempt has ended: a few results cost the database what one
does."""

LONGEST_LINGER = 0.05
"""The same while every slot has its next delivery waiting: nobody is kept from anything then."""

log = structlog.get_logger(__name__)


class InsideTransaction(RuntimeError):
    """Somebody was about to wait for the network with a database transaction open."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A claimed delivery and its attempt: None when it was not started."""

    claimed: Claimed
    began: dt.datetime
    attempt: transport.Attempt | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    claimed: Claimed
    secrets: Sequence[str] = field(repr=False)
    start_by: float


class _ByOwner:
    """Deliveries counted by their owners; who has none is not there."""

    def __init__(self) -> None:
        self.total = 0
        self.counts: dict[str, int] = {}

    def add(self, owner: str) -> None:
        """Count one more."""
        self.total += 1
        self.counts[owner] = self.counts.get(owner, 0) + 1

    def remove(self, owner: str) -> None:
        """Count one less."""
        self.total -= 1
        self.counts[owner] -= 1
        if not self.counts[owner]:
            del self.counts[owner]


class Window:
    """Sends claimed deliveries on threads and hands back what has ended, in the order it ends.

    A slow peer keeps its own slots and nobody else's: no chunk waits for its slowest member, and
    however many slow endpoints an owner has, three quarters of the slots are for the others.
    """

    def __init__(self, sender: transport.Sender, *, lease: dt.timedelta) -> None:
        self._sender = sender
        # What has waited so long for a slot that its lease could end in mid-attempt is not begun.
        self._longest_wait = (lease - 2 * config.current().send_timeout).total_seconds()
        self._slots, self._share = SLOTS, max(1, SLOTS // OWNER_SHARE)
        self._threads = ThreadPoolExecutor(SLOTS, thread_name_prefix="webhook")
        self._ended: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self._taken = _ByOwner()
        self._since: dict[int, tuple[UUID, float]] = {}
        self._ended_at: deque[float] = deque(maxlen=MOST_AHEAD)
        # Shared with the threads: who waits for a slot, by owner, and who has one.
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._on_wire = _ByOwner()

    @property
    def under_way(self) -> int:
        """Deliveries taken and not yet handed back."""
        return self._taken.total

    @property
    def taken(self) -> Mapping[str, int]:
        """The same by owner."""
        return self._taken.counts

    @property
    def size(self) -> int:
        """How many may be under way: what the slots hold, and a second's worth beside it."""
        while self._ended_at and time.monotonic() - self._ended_at[0] > PACE_SECONDS:
            self._ended_at.popleft()
        return self._slots + max(AHEAD, len(self._ended_at))

    @property
    def room(self) -> int:
        """How many more may be taken."""
        return max(0, self.size - self.under_way)

    @property
    def owners_room(self) -> int:
        """How many one owner may have taken."""
        return self.size // OWNER_SHARE

    @property
    def wants_more(self) -> bool:
        """Whether there is so much room that it is worth a claim."""
        return self.room >= self.size // REFILL

    def endpoints_since(self, longest: float) -> set[UUID]:
        """Return the endpoints that have had a delivery under way for longer than so many s."""
        before = time.monotonic() - longest
        return {endpoint_id for endpoint_id, since in self._since.values() if since < before}

    def submit(self, claimed: Claimed, secrets: Sequence[str]) -> None:
        """Begin an attempt as soon as its owner has a slot free.

        Raises:
            InsideTransaction: a database transaction is open: what it claimed could be undone.
        """
        _refuse_inside_transaction()
        start_by = time.monotonic() + self._longest_wait
        self._taken.add(claimed.owner)
        self._since[claimed.delivery_id] = claimed.endpoint_id, time.monotonic()
        with self._lock:
            waiting = self._waiting.setdefault(claimed.owner, deque())
            waiting.append(_Waiting(claimed, secrets, start_by))
            self._begin_what_may()

    def collect(self, *, patience: float) -> list[Finished]:
        """Return what has ended; wait up to `patience` seconds for the first if nothing has.

        Raises:
            InsideTransaction: a database transaction is open.
        """
        _refuse_inside_transaction()
        finished: list[Finished] = []
        until = first_at = time.monotonic() + patience
        while self.under_way:
            try:
                one = self._ended.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            self._ended_at.append(time.monotonic())
            if not finished:
                first_at = self._ended_at[-1]
            linger = LONGEST_LINGER if self._is_stocked else LINGER
            until = first_at + min(patience, linger)
            self._taken.remove(one.claimed.owner)
            self._since.pop(one.claimed.delivery_id, None)
            finished.append(one)
        return finished

    def withdraw(self, endpoint_ids: Collection[UUID]) -> None:
        """Begin no more attempts to these endpoints: what waits for a slot ends as not started."""
        with self._lock:
            for owner, waiting in self._waiting.items():
                stays: deque[_Waiting] = deque()
                for one in waiting:
                    if one.claimed.endpoint_id in endpoint_ids:
                        self._ended.put(Finished(one.claimed, _now(), None))
                    else:
                        stays.append(one)
                self._waiting[owner] = stays

    def stop_waiting(self) -> None:
        """Begin no more attempts at all: what waits for a slot ends as not started."""
        with self._lock:
            for waiting in self._waiting.values():
                while waiting:
                    self._ended.put(Finished(waiting.popleft().claimed, _now(), None))

    def close(self) -> None:
        """Let the threads go without waiting for them."""
        self.stop_waiting()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _is_stocked(self) -> bool:
        """Whether each slot that becomes free has something to send at once, as it seems."""
        return self.under_way - self._on_wire.total - self._ended.qsize() >= self._slots

    def _begin_what_may(self) -> None:
        """Give free slots to those who wait, the owners by turns. Needs the lock."""
        while self._on_wire.total < self._slots and (one := self._next()) is not None:
            self._on_wire.add(one.claimed.owner)
            self._threads.submit(self._occupy_slot, one)

    def _next(self) -> _Waiting | None:
        for owner in list(self._waiting):
            if not self._waiting[owner]:
                del self._waiting[owner]
            elif self._on_wire.counts.get(owner, 0) < self._share:
                self._waiting.move_to_end(owner)
                return self._waiting[owner].popleft()
        return None

    def _occupy_slot(self, one: _Waiting) -> None:
        finished = self._attempt(one)
        with self._lock:
            self._on_wire.remove(one.claimed.owner)
            self._begin_what_may()
        self._ended.put(finished)

    def _attempt(self, one: _Waiting) -> Finished:
        claimed, began = one.claimed, _now()
        if time.monotonic() > one.start_by:
            return Finished(claimed, began, None)
        span = _span(claimed)
        traceparent = claimed.traceparent if span is None else span.traceparent
        try:
            attempt = self._sender.send(_request(one, began, traceparent))
        except Exception as error:
            # Ours, not the peer's; it costs an attempt, so that it can not go round for ever.
            log.exception("attempt.broke", delivery_id=claimed.delivery_id)
            attempt = transport.Attempt(
                Outcome.PROTOCOL_ERROR, None, 0, "", None, f"not sent: {type(error).__name__}"
            )
        if span is not None:
            _end(span, attempt)
        return Finished(claimed, began, attempt)


def _span(claimed: Claimed) -> tracing.Span | None:
    """Begin the span of an attempt: part of what told of the event."""
    if not tracing.is_on():
        return None
    return tracing.begin(
        f"deliver {claimed.type}",
        Kind.client,
        parent=claimed.traceparent,
        event_id=ids.event_id(claimed.message_id),
        tenant_id=claimed.tenant_id,
        delivery_id=claimed.delivery_id,
        endpoint_id=str(claimed.endpoint_id),
        attempt=claimed.attempt_count + 1,
    )


def _end(span: tracing.Span, attempt: transport.Attempt) -> None:
    status = {} if attempt.status is None else {"http.response.status_code": attempt.status}
    failed = attempt.outcome is not Outcome.DELIVERED
    span.end(error=str(attempt.outcome) if failed else None, **status)


def _refuse_inside_transaction() -> None:
    if database.in_transaction():
        raise InsideTransaction(InsideTransaction.__doc__)


def _request(one: _Waiting, began: dt.datetime, traceparent: str | None) -> transport.Request:
    claimed = one.claimed
    return transport.Request(
        url=claimed.url,
        message_id=ids.event_id(claimed.message_id),
        topic=claimed.type,
        attempt_number=claimed.attempt_count + 1,
        payload_version=claimed.schema_version,
        timestamp=int(began.timestamp()),
        body=claimed.body,
        secrets=one.secrets,
        custom_headers=claimed.headers,
        traceparent=traceparent,
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

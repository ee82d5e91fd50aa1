"""One run over the stream of usage: it reads, stores, and deletes what it has stored."""

import datetime as dt
import functools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from models import database, failures
from models.rules.refusal import Refusal
from models.store import inbox
from tasks import shutdown, stream_entry
from tasks.producer.stream import STREAM
from tasks.stream_entry import Entry

GROUP = "billing"
CONSUMER = "drain"
"""One name for all who drain. What tells a dead one's entries from a live one's is how long ago
they were given out; names of our own would have to be deleted, and their entries with them."""

TRIES = f"{STREAM}:tries"
"""A hash: how often an entry was tried alone."""

LARGEST_CHUNK = 5_000
"""Entries of one transaction."""

FIRST_CHUNK = 500
"""Entries that are read before it is known how large they are."""

CHUNK_BYTES = 16 * 1024 * 1024
"""Of entries that are read at once, about."""

CLAIMED_CHUNK = 500
"""Entries that are taken over at once: one that kills its worker holds up these, not thousands."""

IDLE_SECONDS = 30
"""Entries that were given out so long ago are taken over. Longer than a chunk takes: an entry that
is stored twice at once is only a duplicate, but work for nothing."""

ALONE_FROM = 3
"""From this delivery on an entry is tried alone: those before may have died of it."""

MOST_TRIES = 3
"""How often an entry is tried alone. One that ends its worker each time is then refused."""

TIME_BUDGET = 2.0
"""Seconds after which a run begins no further chunk. Beat rings each second, so that at most two
runs are going on at a time, however long the backlog: other usage has workers too."""

OWN_FAULTS = (
    Refusal,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    AssertionError,
)
"""What Python raises because of what it is given, and would raise again."""

log = structlog.get_logger(__name__)


class DrainAnswer(TypedDict):
    """How many entries were read in this run, and what became of them."""

    entries: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int


class Run:
    """One run: it reads, stores, and deletes what it has stored."""

    def __init__(self, client: Redis, now: dt.datetime) -> None:
        self._client = client
        self._now = now
        self._deadline = time.monotonic() + TIME_BUDGET
        self._counts: Counter[str] = Counter()

    def go(self) -> DrainAnswer:
        for chunk in self._chunks():
            try:
                self._store(chunk)
            except Exception:
                # The database's fault and not theirs: the next run need not wait for them.
                self._give_back(chunk)
                raise
            if self._is_over():
                break
        return self.answer(self._counts)

    @staticmethod
    def answer(counts: Counter[str]) -> DrainAnswer:
        return {
            "entries": counts["entries"],
            "accepted": counts["accepted"],
            "duplicate": counts["duplicate"],
            "conflict": counts["conflict"],
            "rejected": counts["rejected"],
        }

    def _is_over(self) -> bool:
        return time.monotonic() >= self._deadline or shutdown.has_begun()

    def _chunks(self) -> Iterator[list[Entry]]:
        # First what others died with: it has waited longest.
        yield from self._claimed()
        count = FIRST_CHUNK
        while found := self._read(count):
            yield [stream_entry.parse(*each) for each in found]
            if len(found) < count:
                return
            size = sum(len(value) for _, values in found for value in values.values())
            count = max(1, min(LARGEST_CHUNK, CHUNK_BYTES * len(found) // max(1, size)))

    def _read(self, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return new entries, which are ours from now on."""
        answer: Any = self._asking(
            lambda: self._client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=count)
        )
        return answer[0][1] if answer else []

    def _claimed(self) -> Iterator[list[Entry]]:
        """Take over the entries of runs that died, and yield those that need no special care."""
        cursor = b"0-0"
        while True:
            cursor, found, _ = self._asking(functools.partial(self._claim, cursor))
            entries = [stream_entry.parse(*each) for each in found]
            alone = self._delivered_often(entries)
            if together := [entry for entry in entries if entry.id not in alone]:
                yield together
            self._try_alone([entry for entry in entries if entry.id in alone])
            if cursor == b"0-0":
                return

    def _claim(self, cursor: bytes) -> Any:
        return self._client.xautoclaim(
            STREAM,
            GROUP,
            CONSUMER,
            min_idle_time=IDLE_SECONDS * 1000,
            start_id=cursor,
            count=CLAIMED_CHUNK,
        )

    def _delivered_often(self, entries: Sequence[Entry]) -> set[bytes]:
        if not entries:
            return set()
        pending: Any = self._client.xpending_range(
            STREAM, GROUP, min=entries[0].id, max=entries[-1].id, count=2 * LARGEST_CHUNK
        )
        return {each["message_id"] for each in pending if each["times_delivered"] >= ALONE_FROM}

    def _try_alone(self, entries: Sequence[Entry]) -> None:
        for place, entry in enumerate(entries):
            if self._is_over():
                self._give_back(entries[place:], delivered=ALONE_FROM - 1)
                return
            tried: Any = self._client.hincrby(TRIES, entry.id, 1)
            if tried > MOST_TRIES:
                self._refuse(entry, "worker.lost", "each worker that took it came to an end")
            else:
                self._store([entry])
            self._client.hdel(TRIES, entry.id)

    def _store(self, entries: Sequence[Entry]) -> None:
        try:
            with database.transaction() as session:
                counts = stream_entry.record(session, entries, now=self._now)
        except Exception as error:
            if not _is_their_fault(error):
                raise
            if len(entries) == 1:
                self._refuse(entries[0], "unexpected", f"{type(error).__name__}: see the log")
                return
            # One of them is poison: the others go without it.
            middle = len(entries) // 2
            self._store(entries[:middle])
            self._store(entries[middle:])
            return
        self._delete(entries, counts)

    def _refuse(self, entry: Entry, code: str, reason: str) -> None:
        rejection = stream_entry.rejection(entry, code, reason)
        with database.transaction() as session:
            kept = inbox.keep_rejections(session, [rejection], now=self._now)
        log.warning("usage_stream.refused", code=code, rejected_message_id=kept[0])
        self._delete([entry], Counter(rejected=1))

    def _delete(self, entries: Sequence[Entry], counts: Counter[str]) -> None:
        """Delete entries whose transaction has been committed."""
        ids = [entry.id for entry in entries]
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.xack(STREAM, GROUP, *ids)
            pipeline.xdel(STREAM, *ids)
            pipeline.execute()
        self._counts += counts
        self._counts["entries"] += len(entries)

    def _give_back(self, entries: Sequence[Entry], *, delivered: int = 1) -> None:
        """Let the next run take over what of these was not deleted, as if it were new."""
        try:
            self._client.xclaim(
                STREAM,
                GROUP,
                CONSUMER,
                min_idle_time=0,
                message_ids=[entry.id for entry in entries],
                idle=IDLE_SECONDS * 1000,
                retrycount=delivered,
                justid=True,
            )
        except RedisError as error:
            log.warning("usage_stream.not_given_back", reason=type(error).__name__)

    def _asking(self, ask: Any) -> Any:
        """Ask for entries; make the group if there is none, as at first and after a FLUSHALL."""
        try:
            return ask()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._make_group()
            return ask()

    def _make_group(self) -> None:
        try:
            # From the beginning: what was put there before anybody drained counts too.
            self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


def _is_their_fault(error: Exception) -> bool:
    """Tell whether an error comes of what is to be stored, and would come again."""
    return failures.is_refused_value(error) or isinstance(error, OWN_FAULTS)

"""Drain the stream onto which producers put one event a call.

An entry has one field, `event`: one usage event as JSON, in our shape or as a CloudEvent. From any
language: `XADD billing:usage * event '{"tenant_id": "acme", …}'`. Entries are deleted when they
have been stored or refused, never before, and by nobody else: the stream has no MAXLEN, its length
is the backlog.
"""

import datetime as dt
import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

from redis import Redis

from tasks import config, contract, fields
from tasks.producer.stream import STREAM
from tasks.queues import Queue
from tasks.stream_run import DrainAnswer, Run

NETWORK_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many entries wait, and since when the oldest does; None if none does."""

    waiting: int
    oldest: dt.datetime | None


@contract.job("billing.drain_usage_stream", queue=Queue.usage)
def drain_usage_stream(*, as_of: fields.Instant = contract.NOW) -> DrainAnswer:
    """Store the usage events that wait on the Redis stream `billing:usage`.

    Runs every second, for two seconds if there is that much work. Any number may run side by side:
    each entry is given to one. Twice is harmless: an event is known by its key. If it dies half way
    the entries it had not stored, and those it had stored and not yet deleted, are given to another
    run after 30 s. An entry that can not be stored costs only itself: it is kept in
    rejected_messages, also when it is no JSON, or ends each worker that takes it.

    Args:
        as_of: when events that do not say when they happened arrived.
    """
    client = _client()
    if client is None:
        return Run.answer(Counter())
    return Run(client, as_of).go()


def backlog() -> Backlog | None:
    """Return how much waits on the stream; None if none is drained.

    Raises:
        redis.RedisError: it can not be asked.
    """
    client = _client()
    if client is None:
        return None
    waiting = int(client.xlen(STREAM))
    first: Any = client.xrange(STREAM, count=1)
    return Backlog(waiting, _instant(first[0][0]) if first else None)


def _instant(identifier: bytes) -> dt.datetime:
    """Return when an entry was added: Redis' own ids begin with it, in milliseconds."""
    milliseconds = int(identifier.partition(b"-")[0])
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC)


def _client() -> Redis | None:
    url = config.current().stream_url
    return None if url is None else _connect(url)


@functools.lru_cache(maxsize=1)
def _connect(url: str) -> Redis:
    # One for the process; a forked child's pool notices, and opens connections of its own.
    return Redis.from_url(
        url,
        socket_timeout=NETWORK_SECONDS,
        socket_connect_timeout=NETWORK_SECONDS,
        socket_keepalive=True,
        health_check_interval=25,
    )

"""Is the broker one that loses nothing, who listens to it, and does beat ring?"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tasks import config, stream
from tasks.queues import Queue
from worker import settings, standing
from worker.health import tls, work
from worker.health.finding import Area, Finding, Verdict

BEAT_SILENCE_SECONDS: Final = 30.0
"""Beat rings every second; nothing heard for this long means that it is gone."""

ANSWER_SECONDS: Final = 2.0
"""How long broker and workers get to answer."""

MEMORY_WARN: Final = 0.8
"""Part of its memory from which on a Redis is about to refuse messages."""


def look(
    chosen: settings.Settings, app: Celery, now: Callable[[], dt.datetime]
) -> Iterator[Finding]:
    """Judge the broker, what waits in it, the workers and beat."""
    try:
        url = chosen.broker()
        with app.connection_for_read(url, connect_timeout=ANSWER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
            yield Finding(Area.broker, "broker", Verdict.ok, connection.as_uri())
            if settings.is_redis(url):
                yield from of_redis(connection.default_channel.client)
            yield _queues(standing.queued(connection))
            yield _stream(chosen, now)
            yield from _workers(app, connection)
    except settings.InvalidSettings as error:
        remedy = "set BROKER_URL or run `billing up`"
        yield Finding(Area.broker, "broker", Verdict.fail, str(error), remedy)
    except (OperationalError, RedisError, OSError) as error:
        remedy = tls.remedy(error, "ssl_ca_certs in BROKER_URL") or (
            "start the broker, or correct BROKER_URL"
        )
        detail = f"can not be reached: {error}"
        yield Finding(Area.broker, "broker", Verdict.fail, detail, remedy)


def of_redis(client: Any) -> Iterator[Finding]:
    """Judge how a Redis keeps what it is given.

    Args:
        client: of redis-py; what it asks is `INFO`, which managed servers answer too.
    """
    memory, kept = client.info("memory"), client.info("persistence")
    policy = str(memory.get("maxmemory_policy", "unknown"))
    yield _wanted("maxmemory-policy", policy, "noeviction", "or a full Redis drops messages")
    appends = "yes" if kept.get("aof_enabled") else "no"
    yield _wanted("appendonly", appends, "yes", "or a restart of Redis loses messages")
    if appends == "yes" and kept.get("aof_last_write_status", "ok") != "ok":
        remedy = "free its disk: what it takes now is lost by a restart"
        yield Finding(Area.broker, "append-only file", Verdict.fail, "can not be written", remedy)
    yield _memory(int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0)))


def _wanted(subject: str, found: str, value: str, why: str) -> Finding:
    if found == value:
        return Finding(Area.broker, subject, Verdict.ok, found)
    return Finding(Area.broker, subject, Verdict.warn, found, f"set it to {value!r}, {why}")


def _memory(used: int, most: int) -> Finding:
    megabytes = f"{used / 2**20:,.0f} MiB"
    if not most:
        return Finding(Area.broker, "memory", Verdict.ok, f"{megabytes} used, without a limit")
    detail = f"{megabytes} of {most / 2**20:,.0f} MiB used"
    if used < MEMORY_WARN * most:
        return Finding(Area.broker, "memory", Verdict.ok, detail)
    remedy = "see what waits in the queues; give it more memory (maxmemory)"
    return Finding(Area.broker, "memory", Verdict.warn, detail, remedy)


def _queues(waiting: Mapping[str, float]) -> Finding:
    detail = ", ".join(f"{queue} {count:,.0f}" for queue, count in waiting.items())
    return Finding(Area.backlog, "queues", Verdict.ok, detail)


def _stream(chosen: settings.Settings, now: Callable[[], dt.datetime]) -> Finding:
    try:
        config.use(chosen.task_config())
        found = stream.backlog()
    except settings.InvalidSettings as error:
        remedy = "correct that variable"
        return Finding(Area.settings, "settings of tasks", Verdict.fail, str(error), remedy)
    except RedisError as error:
        # A text of Redis names host and port, never the password.
        remedy = tls.remedy(error, "ssl_ca_certs in BILLING_USAGE_STREAM_URL") or (
            "start that Redis, or correct BILLING_USAGE_STREAM_URL"
        )
        detail = f"can not be read: {error}"
        return Finding(Area.broker, "usage stream", Verdict.fail, detail, remedy)
    if found is None:
        return Finding(Area.backlog, "usage stream", Verdict.ok, "off")
    remedy = "check the workers of the queue usage, and beat"
    return work.queue("usage stream", found.waiting, found.oldest, now(), remedy)


def _workers(app: Celery, connection: Connection) -> Iterator[Finding]:
    listening = listeners(app, connection)
    for queue in Queue:
        count = listening[queue]
        detail = f"{count} answering"
        if count:
            yield Finding(Area.workers, f"workers of {queue}", Verdict.ok, detail)
        else:
            remedy = f"run `billing worker --queues {queue}`"
            yield Finding(Area.workers, f"workers of {queue}", Verdict.fail, detail, remedy)
    yield _beat(app, connection, any_worker=any(listening.values()))


def listeners(
    app: Celery, connection: Connection, *, within: float = ANSWER_SECONDS
) -> dict[Queue, int]:
    """Return how many workers answer within so many seconds that take messages of each queue."""
    asked = app.control.inspect(timeout=within, connection=connection)
    answers: dict[str, list[dict[str, Any]]] = asked.active_queues() or {}
    return {
        queue: sum(any(entry["name"] == queue for entry in found) for found in answers.values())
        for queue in Queue
    }


def beat_age(
    app: Celery, connection: Connection, *, within: float = ANSWER_SECONDS
) -> float | None:
    """Return how many seconds ago any worker that answers heard beat; None if none ever did."""
    answers = (
        app.control.broadcast("beat_heard", reply=True, timeout=within, connection=connection) or []
    )
    told = [answer for reply in answers for answer in reply.values()]
    ages = [age for answer in told if (age := answer.get("seconds_ago")) is not None]
    return min(ages, default=None)


def _beat(app: Celery, connection: Connection, *, any_worker: bool) -> Finding:
    if not any_worker:
        return Finding(Area.workers, "beat", Verdict.warn, "no worker to ask whether it rings")
    age = beat_age(app, connection)
    if age is not None and age <= BEAT_SILENCE_SECONDS:
        return Finding(Area.workers, "beat", Verdict.ok, f"last heard {age:.1f} s ago")
    heard = "never heard by these workers" if age is None else f"last heard {age:.0f} s ago"
    remedy = "run `billing beat`: one, restarted when it dies"
    return Finding(Area.workers, "beat", Verdict.fail, heard, remedy)

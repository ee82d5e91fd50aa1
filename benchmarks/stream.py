"""Single events on a Redis stream: from one call each to being committed."""

import datetime as dt
import multiprocessing
import time
from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
from redis import Redis

from benchmarks import rounds, servers
from benchmarks.ingest import COLUMNS, FILLED, INSERT, Event, make
from benchmarks.report import Measure
from benchmarks.rounds import Way
from benchmarks.servers import Stage
from tasks.producer import StreamProducer
from tasks.producer.stream import FIELD, STREAM
from tasks.queues import Queue
from tasks.stream import drain_usage_stream
from tasks.stream_run import GROUP, LARGEST_CHUNK

JOB = "stream"

PROCESSES = 2
EVENTS = 40_000

RING_SECONDS = 1.0
"""How often beat rings for a drain."""

GATHER_SECONDS = 0.1
"""What the bare loop waits when it has caught up: more rows a statement, and a quicker floor."""

AIM = 0.60

BARE_STREAM = "bare"

ONE = "one XADD a call"
PIPELINED = "500 XADD an exchange"
DRAIN = "drain alone, in process"


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Put events on the stream one by one and by 500, and beside it do the least that could be."""
    events = make(rounds.scaled(EVENTS, scale, least=500))
    table = stage.copy_of("usage_events")
    ways: dict[str, Way] = {}
    for name, size in ((ONE, 1), (PIPELINED, 500)):
        ways[name] = _producing(stage, events, size)
        ways[f"bare, {name}"] = _producing_bare(stage, table, events, size)
    ways[DRAIN] = _draining(stage, events)
    ways[f"bare, {DRAIN}"] = _draining_bare(stage, table, events)
    with stage.worker(Queue.usage, concurrency=PROCESSES):
        rates = rounds.play("events/s", ways)
    return [
        rates.beside(name, f"bare, {name}", job=JOB, aim=AIM) for name in (ONE, PIPELINED, DRAIN)
    ]


def _producing(stage: Stage, events: Sequence[Event], size: int) -> Way:
    def produce() -> None:
        rung = 0.0
        with StreamProducer(stage.environment["BROKER_URL"], pipelined=size) as producer:
            for event in events:
                producer.record(**event | {"at": dt.datetime.fromisoformat(event["at"])})
                rung = _ring(rung)
        while stage.redis.xlen(STREAM):
            rung = _ring(rung)
            time.sleep(servers.POLL_SECONDS)

    def way() -> float:
        stage.empty(*FILLED)
        reached = rounds.rate(len(events), produce)
        assert stage.value("SELECT count(*) FROM usage_events") == len(events)
        return reached

    return way


def _ring(rung: float) -> float:
    """Do what beat does: ring each second. Returns when it last did."""
    now = time.monotonic()
    if now - rung < RING_SECONDS:
        return rung
    drain_usage_stream.apply_async(ignore_result=True, expires=5)
    return now


def _producing_bare(stage: Stage, table: str, events: Sequence[Event], size: int) -> Way:
    def produce() -> None:
        url = stage.environment["BROKER_URL"]
        drain = multiprocessing.get_context("spawn").Process(
            target=drain_bare, args=(url, stage.environment["DATABASE_URL"], table, len(events))
        )
        # It counts from when the first event comes: a worker is there already, too.
        drain.start()
        servers.wait_until(lambda: bool(stage.redis.lpop(f"{BARE_STREAM}:ready")))
        begun.append(time.perf_counter())
        with Redis.from_url(url) as redis, redis.pipeline(transaction=False) as pipeline:
            for place, event in enumerate(events, start=1):
                target = redis if size == 1 else pipeline
                target.xadd(BARE_STREAM, {FIELD: orjson.dumps(event)})
                if size > 1 and place % size == 0:
                    pipeline.execute()
            pipeline.execute()
        drain.join()

    begun: list[float] = []

    def way() -> float:
        stage.empty(table)
        stage.redis.delete(BARE_STREAM)
        produce()
        return len(events) / (time.perf_counter() - begun[-1])

    return way


def _draining(stage: Stage, events: Sequence[Event]) -> Way:
    def drain() -> None:
        while stage.redis.xlen(STREAM):
            drain_usage_stream()

    def way() -> float:
        stage.empty(*FILLED)
        _fill(stage, STREAM, events)
        return rounds.rate(len(events), drain)

    return way


def _draining_bare(stage: Stage, table: str, events: Sequence[Event]) -> Way:
    def way() -> float:
        stage.empty(table)
        stage.redis.delete(BARE_STREAM)
        _fill(stage, BARE_STREAM, events)
        stage.redis.xgroup_create(BARE_STREAM, GROUP, id="0")
        statement = INSERT.format(table=table, columns=COLUMNS).encode()
        return rounds.rate(
            len(events), lambda: _drain(stage.redis, stage.connection, statement, len(events))
        )

    return way


def _fill(stage: Stage, name: str, events: Sequence[Event]) -> None:
    with stage.redis.pipeline(transaction=False) as pipeline:
        for event in events:
            pipeline.xadd(name, {FIELD: orjson.dumps(event)})
        pipeline.execute()


def drain_bare(broker_url: str, database_url: str, table: str, count: int) -> None:
    """Drain so many events by the shortest loop that does it, in a process of its own."""
    statement = INSERT.format(table=table, columns=COLUMNS).encode()
    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection, Redis.from_url(broker_url) as redis:
        redis.xgroup_create(BARE_STREAM, GROUP, id="0", mkstream=True)
        redis.lpush(f"{BARE_STREAM}:ready", 1)
        _drain(redis, connection, statement, count)


def _drain(redis: Redis, connection: psycopg.Connection[Any], statement: bytes, count: int) -> None:
    while count:
        answer: Any = redis.xreadgroup(
            GROUP, "bare", {BARE_STREAM: ">"}, count=LARGEST_CHUNK, block=100
        )
        if not answer:
            continue
        entries = answer[0][1]
        joined = b",".join(values[FIELD.encode()] for _, values in entries)
        connection.execute(statement, (f"[{joined.decode()}]",))
        ids = [identifier for identifier, _ in entries]
        redis.xack(BARE_STREAM, GROUP, *ids)
        redis.xdel(BARE_STREAM, *ids)
        count -= len(ids)
        if len(ids) < LARGEST_CHUNK:
            time.sleep(GATHER_SECONDS)

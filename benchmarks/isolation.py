"""Webhooks: how long an event waits from its commit to its sending, and what a bad endpoint costs.

Latencies, in milliseconds: smaller is better, and there is no aim that a ratio could miss. An event
waits from when it was written until its first attempt begins, as the tables have it.
"""

import contextlib
import dataclasses
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

from benchmarks import deliveries, receiver, rounds, servers
from benchmarks.report import Measure
from benchmarks.servers import Stage
from models import database
from tasks import announce, config
from tasks.endpoints import create_endpoint
from tasks.queues import Queue
from tasks.tenants import set_tenant

JOB = "isolation"

ENDPOINTS = 10
"""Healthy ones, of as many tenants."""

PROCESSES = 2

IDLE_EVENTS = 60
IDLE_PAUSE = 0.25
"""Seconds between two events of an idle system."""

WARM_UP = 100
"""Events that are not counted: the first ones behind a backlog pay for the making of it, a vacuum
and a checkpoint that wait for the disk."""

BUSY_SECONDS = 20
BUSY_PAUSE = 0.01
"""Seconds between two events of a busy one."""

BACKLOG = 500_000
"""Deliveries that are due to the dead endpoint."""

SLOW_BACKLOG = 20_000
"""The same to the slow one: a thousand a second, for as long as is measured."""

SLOW_SECONDS = 14.0
"""A second less than an attempt may take: it never fails, and so is never left alone."""

ROUNDS = 3

IDLE = "commit to send on an idle system, median"
IDLE_99 = "99th percentile"
IDLE_BESIDE_SLOW = "commit to send, median, idle but for one that answers after 14 s"
HEALTHY = "commit to send, p99, beside a dead endpoint's backlog"
BESIDE_SLOW = "commit to send, p99, beside one that answers after 14 s"
ALONE = "without it"

DEAD, SLOW = "dead", "slow"

PERCENTILE = """
    SELECT 1000 * percentile_cont({part}) WITHIN GROUP (
        ORDER BY extract(epoch FROM a.attempted_at - m.created_at))
    FROM delivery_attempts a
    JOIN deliveries d ON d.id = a.delivery_id JOIN outbox_messages m ON m.id = d.message_id
    WHERE m.tenant_id NOT IN ('dead', 'slow') AND a.attempt_number = 1
"""

MESSAGES = """
    INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body, created_at)
    SELECT gen_random_uuid(), 'billing.quota_consumed', %(tenant)s, 1, 1, '{}',
           now() - interval '1 day'
    FROM generate_series(1, %(count)s)
"""

DUE = """
    INSERT INTO deliveries (message_id, endpoint_id, due_at)
    SELECT m.id, e.id, m.created_at FROM outbox_messages m JOIN endpoints e USING (tenant_id)
    WHERE m.tenant_id = %(tenant)s
"""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Measure latencies on an idle system, then on a busy one alone and beside bad endpoints."""
    warm_up = rounds.scaled(WARM_UP, scale, least=20)
    with receiver.running() as urls, _ringing():
        deliveries.subscribe(urls, tenants=ENDPOINTS)
        # The bad ones go first: a worker ends once its attempts have ended.
        with (
            stage.worker(Queue.webhooks, concurrency=PROCESSES),
            _answering_after(SLOW_SECONDS) as slow,
            _silent() as dead,
        ):
            _subscribe(SLOW, slow)
            _subscribe(DEAD, dead)
            # The processes have their connections from here on.
            _emit(stage, warm_up, pause=BUSY_PAUSE)
            idle_count = rounds.scaled(IDLE_EVENTS, scale, least=8)
            stage.empty(*servers.OUTBOX)
            idle = _now_and_then(stage, idle_count, IDLE)
            count = rounds.scaled(round(BUSY_SECONDS / BUSY_PAUSE), scale, least=100)
            alone = [_busy(stage, count) for _ in range(ROUNDS)]
            _let_fall_due(stage, SLOW, rounds.scaled(SLOW_BACKLOG, scale))
            _emit(stage, warm_up, pause=BUSY_PAUSE)
            beside_slow = [_busy(stage, count) for _ in range(ROUNDS)]
            idle_beside_slow = _now_and_then(stage, idle_count, IDLE_BESIDE_SLOW)
            stage.empty(*servers.OUTBOX)
            _let_fall_due(stage, DEAD, rounds.scaled(BACKLOG, scale))
            _emit(stage, warm_up, pause=BUSY_PAUSE)
            beside_dead = [_busy(stage, count) for _ in range(ROUNDS)]
    return [
        idle.beside(IDLE, IDLE_99, job=JOB),
        idle_beside_slow.beside(IDLE_BESIDE_SLOW, IDLE_99, job=JOB),
        rounds.Rates("ms", {HEALTHY: beside_dead, ALONE: alone}).beside(HEALTHY, ALONE, job=JOB),
        rounds.Rates("ms", {BESIDE_SLOW: beside_slow, ALONE: alone}).beside(
            BESIDE_SLOW, ALONE, job=JOB
        ),
    ]


def _now_and_then(stage: Stage, count: int, name: str) -> rounds.Rates:
    """Let so many events happen far from each other; return the median and the 99th percentile."""
    stage.execute("DELETE FROM delivery_attempts")
    _emit(stage, count, pause=IDLE_PAUSE)
    found = {name: [_percentile(stage, "0.5")], IDLE_99: [_percentile(stage, "0.99")]}
    return rounds.Rates("ms", found)


def _busy(stage: Stage, count: int) -> float:
    """Let so many events happen and return the 99th percentile of how long they waited."""
    stage.execute("DELETE FROM delivery_attempts")
    _emit(stage, count, pause=BUSY_PAUSE)
    return _percentile(stage, "0.99")


def _percentile(stage: Stage, part: str) -> float:
    return float(stage.value(PERCENTILE.format(part=part)))


def _emit(stage: Stage, count: int, *, pause: float) -> None:
    """Write events one by one, and return when the healthy endpoints have had them all."""
    for number in range(count):
        event = deliveries.event(number, tenants=ENDPOINTS)
        with database.transaction() as session:
            announce.announce(
                session,
                event,
                tenant_id=event.tenant_id,
                sequence=number + 1,
                now=deliveries.now(),
            )
        time.sleep(pause)
    servers.wait_until(lambda: _all_tried(stage))


def _all_tried(stage: Stage) -> bool:
    waits = stage.value("""
        SELECT EXISTS (SELECT FROM outbox_pending) OR EXISTS (
            SELECT FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
            WHERE e.tenant_id NOT IN ('dead', 'slow') AND d.state = 'pending')
    """)
    return not waits


def _subscribe(tenant_id: str, url: str) -> None:
    set_tenant(tenant_id=tenant_id)
    create_endpoint(
        url=url,
        topics=["billing.quota_consumed"],
        tenant_id=tenant_id,
        idempotency_key=tenant_id,
    )


def _let_fall_due(stage: Stage, tenant_id: str, count: int) -> None:
    stage.execute(MESSAGES, {"count": count, "tenant": tenant_id})
    stage.execute(DUE, {"tenant": tenant_id})
    stage.execute("VACUUM ANALYZE deliveries")
    stage.execute("CHECKPOINT")


@contextlib.contextmanager
def _answering_after(seconds: float) -> Iterator[str]:
    """A peer that answers well, and late."""
    is_over = threading.Event()

    class Late(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.request.recv(65_536) and not is_over.wait(seconds):
                    self.request.sendall(receiver.ANSWER)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Late) as server:
        server.daemon_threads = True
        answering = threading.Thread(target=server.serve_forever)
        answering.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            is_over.set()
            server.shutdown()
            answering.join()


@contextlib.contextmanager
def _silent() -> Iterator[str]:
    """A peer that lets everybody connect and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@contextlib.contextmanager
def _ringing() -> Iterator[None]:
    """Let commits of this process ring the sender, as a producer's do."""
    before = config.current()
    config.use(dataclasses.replace(before, kick=True))
    try:
        yield
    finally:
        config.use(before)

"""Producers against real workers: whatever is killed, each event is there, and once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import Engine, text

from models import database
from tasks.producer import Limits, StreamProducer, UsageProducer
from tasks.producer.stream import STREAM
from tasks.queues import Queue
from tests.processes import SECONDS, ForgetfulRedis, Worker, eventually
from worker import settings

pytestmark = pytest.mark.slow

IMPATIENT = Limits(chunk_events=50, chunk_seconds=0.1, answer_seconds=2.0, in_flight=4)


RECORD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tasks.producer import Limits, UsageProducer

limits = Limits(chunk_events=50, chunk_seconds=60)
producer = UsageProducer(sys.argv[1], limits=limits, spill=Path(sys.argv[2]))
for amount in range(230):
    producer.record(tenant_id="acme", metric="api", amount=amount)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""230 events are four chunks on their way and one that is not yet complete."""


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[ForgetfulRedis]:
    """A broker that loses all it holds when it is restarted."""
    with ForgetfulRedis(tmp_path) as running:
        yield running


@pytest.fixture
def worker(db: Engine, forgetful: ForgetfulRedis, tmp_path: Path) -> Iterator[Worker]:
    """A worker of the usage queue."""
    environment = {
        "DATABASE_URL": db.url.render_as_string(hide_password=False),
        "BROKER_URL": forgetful.url,
        "BILLING_LOG": "json",
    }
    with Worker(tmp_path, environment, Queue.usage) as running:
        yield running


def totals() -> tuple[int, int]:
    with database.transaction() as session:
        row = session.execute(
            text("SELECT count(*), coalesce(sum(amount), 0)::bigint FROM usage_events")
        ).one()
    return row[0], row[1]


def test_the_producer_loses_and_doubles_nothing_whatever_is_killed(
    worker: Worker, forgetful: ForgetfulRedis
) -> None:
    recorded = 0

    def record(count: int) -> None:
        nonlocal recorded
        for amount in range(recorded, recorded + count):
            producer.record(tenant_id=f"t{amount % 3}", metric="api", amount=amount)
        recorded += count

    producer = UsageProducer(forgetful.url, limits=IMPATIENT)
    record(1000)
    eventually(lambda: producer.statistics.accepted > 100)
    record(1000)
    worker.kill_pool()
    record(500)
    worker.kill()
    record(500)
    worker.start()
    eventually(lambda: producer.statistics.pending < 500)
    record(1000)
    forgetful.flush()
    record(500)
    forgetful.kill()
    worker.kill()
    record(500)
    forgetful.start()
    worker.start()

    statistics = producer.close(timeout=120)

    assert statistics.pending == 0, worker.log()
    assert statistics.refused == 0
    assert statistics.recorded == recorded == 5000
    assert statistics.accepted + statistics.duplicate == recorded
    assert totals() == (recorded, sum(range(recorded)))


def test_what_a_killed_producer_had_recorded_is_sent_by_the_next_one(
    worker: Worker, forgetful: ForgetfulRedis, tmp_path: Path
) -> None:
    worker.kill()
    spill = tmp_path / "spill"
    killed = subprocess.run(
        [sys.executable, "-c", RECORD_AND_DIE, forgetful.url, str(spill)],
        cwd=settings.ROOT,
        check=False,
        timeout=SECONDS,
    )
    assert killed.returncode == -signal.SIGKILL
    forgetful.flush()
    worker.start()

    with UsageProducer(forgetful.url, limits=IMPATIENT, spill=spill) as after:
        assert after.statistics.recovered == 230
        after.record(tenant_id="acme", metric="api", amount=230)

    assert totals() == (231, sum(range(231)))
    assert list(spill.iterdir()) == []


def test_the_stream_is_drained_exactly_though_workers_are_killed_in_the_middle(
    worker: Worker, forgetful: ForgetfulRedis
) -> None:
    count = 30_000
    with StreamProducer(forgetful.url, pipelined=500) as producer:
        for amount in range(count):
            producer.record(tenant_id=f"t{amount % 7}", metric="api", amount=amount)
    redis = Redis.from_url(forgetful.url)

    ring(forgetful)
    eventually(lambda: totals()[0] > 1_000)
    worker.kill_pool()
    assert redis.xlen(STREAM) > 0
    ring(forgetful)
    eventually(lambda: totals()[0] > 10_000 or ring(forgetful))
    worker.kill()
    worker.start()
    eventually(lambda: not redis.xlen(STREAM) or ring(forgetful))
    redis.close()

    assert totals() == (count, sum(range(count)))


def ring(broker: ForgetfulRedis) -> bool:
    """Do what beat does each second; False, to be asked again."""
    with Celery(broker=broker.url, set_as_current=False) as bell:
        bell.send_task("billing.drain_usage_stream", queue="usage", ignore_result=True)
    return False

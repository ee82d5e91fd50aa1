"""RabbitMQ as the broker, with answers in Redis: quorum queues, and nothing lost with it or us."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import PreconditionFailed  # type: ignore[import-untyped]
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue
from kombu.exceptions import OperationalError

from tasks.producer import UsageProducer
from tasks.queues import Queue
from tests import rabbitmq, tls
from tests.acceptance import system
from worker import settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(rabbitmq.program() is None, reason="RabbitMQ is not installed"),
]

POISON = "tests.acceptance.poison"
MANY = 50


@dataclass(slots=True)
class World:
    """A system whose broker is RabbitMQ, and a producer that knows nothing of ours."""

    system: system.System
    node: rabbitmq.RabbitMQ
    client: Celery

    def send(self, task: str, queue: Queue = Queue.billing, **arguments: Any) -> str:
        """Send as docs/rabbitmq.md says: to a queue that it does not declare."""
        to = KombuQueue(queue.value, Exchange(""), queue.value, no_declare=True)  # type: ignore[no-untyped-call]
        return str(self.client.send_task(task, kwargs=arguments, queue=to).id)

    def answer(self, message: str) -> Any:
        """Wait for the answer in Redis."""
        self.system.wait(lambda: self.system.producer.find_answer(message), within=120)
        found = self.system.producer.find_answer(message) or {}
        assert found["status"] == "SUCCESS", found
        return found["result"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """RabbitMQ, PostgreSQL, Redis for answers and the stream, a worker and beat."""
    with (
        rabbitmq.running(tmp_path_factory.mktemp("node")) as node,
        system.running(tmp_path_factory.mktemp("rabbitmq")) as started,
    ):
        redis = started.environment["BROKER_URL"]
        started.environment |= {
            "BROKER_URL": node.url,
            "BILLING_RESULT_BACKEND": redis,
            "BILLING_USAGE_STREAM_URL": redis,
        }
        client = Celery("client", broker=node.url, set_as_current=False)
        client.conf.broker_transport_options = {"confirm_publish": True}
        started.start_worker("worker", include=POISON)
        started.start_beat()
        started.await_ready()
        yield World(started, node, client)
        client.close()


def test_commands_usage_the_stream_and_beat_work(world: World) -> None:
    told = world.answer(world.send("billing.set_tenant", tenant_id="acme", name="Acme"))
    assert told["tenant_id"] == "acme"
    redis = world.system.environment["BILLING_RESULT_BACKEND"]
    with contextlib.closing(UsageProducer(world.node.url, answers=redis)) as producer:
        producer.record(tenant_id="acme", metric="calls", amount="2", idempotency_key="1")
        producer.flush()
    with contextlib.closing(world.system.redis()) as client:
        event = '{"tenant_id":"acme","metric":"calls","amount":"3","idempotency_key":"2"}'
        client.xadd("billing:usage", {"event": event})

    # Drained and counted because beat rang.
    world.system.wait(
        lambda: world.system.query("SELECT 1 FROM usage_aggregates WHERE total = 5"), within=120
    )


def test_over_tls_a_server_of_another_ca_or_of_another_name_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, stranger = (tls.Authority(tmp_path, name) for name in ("known", "stranger"))
    right, elsewhere = known.issue("right"), known.issue("elsewhere", host="192.0.2.1")

    def connect(front: tls.Front, ca: tls.Authority) -> None:
        url = f"amqps://guest:guest@{tls.HOST}:{front.port}//?ssl_ca_certs={ca.file}"
        monkeypatch.setenv("BROKER_URL", url)
        chosen = settings.load()
        # As Celery does, with what it is told.
        with Connection(chosen.broker(), ssl=chosen.broker_ssl()) as connection:  # type: ignore[no-untyped-call]
            connection.ensure_connection(max_retries=1, timeout=20)

    with tls.front(world.node.port, right) as front:
        connect(front, known)
        with pytest.raises(OperationalError, match="certificate verify failed"):
            connect(front, stranger)
        url = f"amqps://guest:guest@{tls.HOST}:{front.port}//?ssl_ca_certs={known.file}"
        redis = world.system.environment["BILLING_RESULT_BACKEND"]
        with contextlib.closing(UsageProducer(url, answers=redis)) as producer:
            producer.record(tenant_id="tls", metric="calls", amount="1", idempotency_key="1")
            producer.flush()
    with (
        tls.front(world.node.port, elsewhere) as front,
        pytest.raises(OperationalError, match="IP address mismatch"),
    ):
        connect(front, known)
    assert world.system.query("SELECT amount FROM usage_events WHERE tenant_id = 'tls'") == [(1,)]


def test_the_queues_are_kept_by_a_majority(world: World) -> None:
    for queue in Queue:
        with world.client.connection_for_write() as connection:
            classic = KombuQueue(queue.value)(connection.channel())  # type: ignore[no-untyped-call]
            with pytest.raises(PreconditionFailed, match="current is the value 'quorum'"):
                classic.declare()  # type: ignore[no-untyped-call]


def test_nothing_is_declared_that_newer_versions_refuse(world: World) -> None:
    listed = world.node.queues()

    ours = {name for name, *_ in listed} & {queue.value for queue in Queue}
    assert ours == {queue.value for queue in Queue}
    assert any("pidbox" in name for name, *_ in listed)
    # From 4.3 on a queue is one or the other; a transient one that several share is refused.
    assert [name for name, durable, exclusive, *_ in listed if durable == exclusive] == []
    arguments = " ".join(row[-1] for row in listed)
    assert not re.search("x-queue-mode|x-queue-version|x-queue-master-locator|x-ha-", arguments)


def test_a_message_whose_worker_was_killed_runs_again_at_once(world: World, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    message = world.send("billing.test_nap", diary=str(diary), seconds=3)
    world.system.wait(diary.exists, within=120)

    os.kill(world.system.pid("worker"), signal.SIGKILL)
    world.system.restart("worker")

    world.answer(message)
    assert diary.read_text().count("began\n") == 2


def test_a_message_that_kills_its_worker_runs_three_times_and_is_kept(
    world: World, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    message = world.send("billing.test_die", diary=str(diary))

    kept = "SELECT code FROM rejected_messages WHERE message_id = :id"
    world.system.wait(lambda: world.system.query(kept, id=message), within=120)

    assert world.system.query(kept, id=message) == [("worker.lost",)]
    assert diary.read_text().count("began\n") == 3


def test_what_a_killed_rabbitmq_has_confirmed_is_there_when_it_is_back(world: World) -> None:
    world.system.terminate("worker")
    for number in range(MANY):
        world.send("billing.set_tenant", tenant_id=f"confirmed-{number}")

    world.node.kill()
    world.node.start()
    world.system.restart("worker")
    world.system.supervisor.wait_until_ready("worker")

    stored = "SELECT count(*) FROM tenants WHERE tenant_id LIKE 'confirmed-%'"
    world.system.wait(lambda: world.system.query(stored) == [(MANY,)], within=120)
    # And a worker that was there when it died finds it again.
    world.node.kill()
    world.node.start()
    assert world.answer(world.send("billing.set_tenant", tenant_id="after"))

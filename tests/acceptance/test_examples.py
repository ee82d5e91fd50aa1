"""The examples do what they say: against a real worker, in the languages this machine has."""

import base64
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import Engine, text

from models import database
from tasks.queues import Queue
from tests.processes import SECONDS, ForgetfulRedis, Worker, eventually, free_port, without_ours
from webhooks.keyring import new_master_key
from worker import local

pytestmark = pytest.mark.slow

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="node or npm is not here"
)
needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="go is not here")


@dataclass(frozen=True, slots=True)
class System:
    """A worker of every queue, and its broker."""

    broker_url: str
    client: Celery
    redis: Redis

    def call(self, task: str, queue: str, **arguments: Any) -> Any:
        """Send a task and return its answer."""
        return self.client.send_task(task, kwargs=arguments, queue=queue).get(timeout=SECONDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where broker and worker write."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[ForgetfulRedis]:
    """A broker of these tests' own."""
    with ForgetfulRedis(folder) as running:
        yield running


@pytest.fixture(scope="module")
def running(servers: local.Servers, broker: ForgetfulRedis, folder: Path) -> Iterator[System]:
    """The system of all these tests: nobody here kills it."""
    environment = {
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": broker.url,
        "BILLING_LOG": "json",
        "BILLING_MASTER_KEYS": new_master_key("test"),
        "BILLING_WEBHOOK_ALLOW_HTTP": "true",
        "BILLING_WEBHOOK_PRIVATE_HOSTS": "127.0.0.0/8",
    }
    client = Celery(broker=broker.url, backend=broker.url, set_as_current=False)
    with (
        Worker(folder, environment, *Queue),
        Redis.from_url(broker.url) as redis,
        client,
    ):
        yield System(broker.url, client, redis)


@pytest.fixture
def system(db: Engine, running: System) -> System:
    """The running system, with an empty database."""
    return running


def run(system: System, checkout: Path, *command: str, cwd: Path | None = None) -> str:
    """Run an example and return what it printed."""
    ended = subprocess.run(
        command,
        cwd=cwd or checkout,
        env={
            **without_ours(os.environ),
            "BROKER_URL": system.broker_url,
            "PYTHONPATH": str(checkout),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def stored() -> tuple[int, int]:
    with database.transaction() as session:
        row = session.execute(
            text("SELECT count(*), coalesce(sum(amount), 0)::bigint FROM usage_events")
        ).one()
    return row[0], row[1]


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that the Node examples name."""
    folder = tmp_path_factory.mktemp("node")
    try:
        installed = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "redis", "standardwebhooks"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm install did not end in time")
    if installed.returncode != 0:
        pytest.skip(f"npm install failed: {(installed.stderr.splitlines() or ['?'])[-1]}")
    return folder


def test_python_sends_a_message(system: System, checkout: Path) -> None:
    said = run(system, checkout, sys.executable, "examples/produce.py")

    assert said == "10 accepted, 0 duplicate, []\n"
    assert stored() == (10, 1045)


def test_python_sends_a_message_without_celery(system: System, checkout: Path) -> None:
    said = run(system, checkout, sys.executable, "examples/produce_plain.py")

    assert "'accepted': 1" in said
    assert stored() == (1, 42)


def test_python_sends_single_events_onto_the_stream(system: System, checkout: Path) -> None:
    said = run(system, checkout, sys.executable, "examples/produce_stream.py")

    assert said.startswith("10 on the stream")
    assert system.call("billing.drain_usage_stream", "usage")["accepted"] == 10
    assert stored() == (10, 1045)


def test_python_sends_through_the_buffered_producer(
    system: System, checkout: Path, tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    said = run(system, checkout, sys.executable, "examples/produce_buffered.py", str(spill))

    assert said == "2500 accepted, 0 without an answer\n"
    assert stored() == (2500, sum(range(100, 2600)))
    assert list(spill.iterdir()) == []


@needs_node
def test_node_sends_a_message(system: System, checkout: Path, node_folder: Path) -> None:
    shutil.copy(checkout / "examples/node/produce.mjs", node_folder)
    said = run(system, checkout, "node", "produce.mjs", cwd=node_folder)

    assert said == "10 accepted, 0 duplicate\n"
    assert stored() == (10, 1045)


@needs_go
def test_go_sends_a_message(system: System, checkout: Path) -> None:
    said = run(system, checkout, "go", "run", "examples/go/produce.go")

    assert '"accepted": 10' in said
    assert stored() == (10, 1045)


def test_the_message_of_the_go_example_is_one_that_workers_take(
    system: System, checkout: Path
) -> None:
    task_id = str(uuid.uuid4())
    system.redis.lpush("usage", filled(checkout, task_id))

    assert system.client.AsyncResult(task_id).get(timeout=SECONDS)["accepted"] == 1


def test_the_message_of_the_go_example_has_the_shape_of_celerys_own(
    checkout: Path, tmp_path: Path
) -> None:
    with (
        ForgetfulRedis(tmp_path) as unheard,
        Celery(broker=unheard.url, set_as_current=False) as client,
        Redis.from_url(unheard.url) as redis,
    ):
        client.send_task(
            "billing.record_usage", kwargs={"events": []}, queue="usage", ignore_result=True
        )
        (raw,) = redis.lrange("usage", 0, -1)
    theirs = json.loads(raw)
    ours = json.loads(filled(checkout, str(uuid.uuid4())))

    assert ours.keys() == theirs.keys()
    for part in ("headers", "properties"):
        assert ours[part].keys() <= theirs[part].keys()
        for name, value in ours[part].items():
            assert type(value) is type(theirs[part][name]), name
    for name in ("content-type", "content-encoding"):
        assert ours[name] == theirs[name]
    for name in ("delivery_info", "delivery_mode", "body_encoding"):
        assert ours["properties"][name] == theirs["properties"][name]
    assert ours["headers"]["task"] == theirs["headers"]["task"]
    args, kwargs, options = json.loads(base64.b64decode(theirs["body"]))
    assert (args, list(kwargs)) == ([], ["events"])
    source = (checkout / "examples/go/produce.go").read_text()
    assert all(f'"{name}"' in source for name in ["events", *options])


def filled(checkout: Path, task_id: str) -> str:
    """What examples/go/produce.go makes of its template."""
    event = {"tenant_id": "acme", "metric": "api", "amount": "1", "idempotency_key": task_id}
    options = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = base64.b64encode(json.dumps([[], {"events": [event]}, options]).encode()).decode()
    template = (checkout / "examples/go/message.json").read_text()
    return (
        template.replace("BODY", body)
        .replace("TASK_ID", task_id)
        .replace("DELIVERY_TAG", str(uuid.uuid4()))
    )


def test_the_python_receiver_takes_a_signed_webhook(
    system: System, checkout: Path, tmp_path: Path
) -> None:
    program = [sys.executable, str(checkout / "examples/receiver/receiver.py")]
    receive(system, program, cwd=tmp_path, log_folder=tmp_path)


@needs_node
def test_the_node_receiver_takes_a_signed_webhook(
    system: System, checkout: Path, node_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(checkout / "examples/receiver/receiver.mjs", node_folder)
    receive(system, ["node", "receiver.mjs"], cwd=node_folder, log_folder=tmp_path)


def receive(system: System, program: list[str], *, cwd: Path, log_folder: Path) -> None:
    """Let a receiver take what usage makes the worker send."""
    port = free_port()
    system.call("billing.set_tenant", "billing", tenant_id="acme", name="Acme")
    endpoint = system.call(
        "billing.create_endpoint",
        "webhooks",
        tenant_id="acme",
        url=f"http://127.0.0.1:{port}/",
        topics=["billing.usage_aggregated"],
        idempotency_key="receiver",
    )
    with receiving([*program, str(port)], endpoint["secret"], cwd, log_folder) as lines:
        eventually(lambda: lines() == [f"listening on http://127.0.0.1:{port}"])
        system.call(
            "billing.record_usage",
            "usage",
            tenant_id="acme",
            metric="api",
            amount="7",
            at="2026-05-01T12:00:00Z",
            idempotency_key="k",
        )
        system.call("billing.aggregate_usage", "usage")
        eventually(lambda: len(lines()) > 1 or not system.call(*RING))

        topic, _, data = lines()[1].partition(" ")

    assert topic == "billing.usage_aggregated"
    assert json.loads(data)["total"] == "7"


RING = ("billing.deliver_webhooks", "webhooks")


@contextmanager
def receiving(command: list[str], secret: str, cwd: Path, log_folder: Path) -> Iterator[Any]:
    """Run a receiver; yields what returns the lines that it has printed so far."""
    said = log_folder / "receiver.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**without_ours(os.environ), "WEBHOOK_SECRET": secret},
            stdout=log,
            stderr=log,
        )
    try:
        yield lambda: said.read_text().splitlines()
    finally:
        process.kill()
        process.wait(SECONDS)

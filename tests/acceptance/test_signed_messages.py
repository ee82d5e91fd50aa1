"""Workers that have keys run what somebody with a key has sent, and nothing else."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import signing
from tasks.producer import UsageProducer
from tasks.queues import Queue
from tasks.signing import MessageKeys
from tests import recorded
from tests.acceptance import system
from webhooks.keyring import new_master_key
from worker import recording

pytestmark = pytest.mark.slow

OLD, NEW = (new_master_key(name) for name in ("k1", "k2"))
KEYS = MessageKeys.parse(f"{NEW},{OLD}")
STRANGER = MessageKeys.parse(new_master_key("k2"))
POISON = "tests.acceptance.poison"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    """A worker that demands signatures, and beat, which signs."""
    folder = tmp_path_factory.mktemp("signed")
    metrics = folder / "metrics"
    metrics.mkdir()
    with system.running(
        folder, BILLING_MESSAGE_KEYS=f"{NEW},{OLD}", BILLING_METRICS_FOLDER=str(metrics)
    ) as started:
        started.start_worker("worker", include=POISON)
        started.start_beat()
        started.await_ready()
        yield started


def message(
    task: str, arguments: dict[str, Any], keys: MessageKeys | None, /, **changed: Any
) -> dict[str, Any]:
    """A message as a producer in another language makes it."""
    task_id, body = str(uuid.uuid4()), json.dumps([[], arguments, {}], indent=1)
    made: dict[str, Any] = {"lang": "py", "task": task, "id": task_id}
    if keys is not None:
        made[signing.HEADER] = keys.sign(task_id, task, body.encode())
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**made, **changed},
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "billing"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def send(running: system.System, made: dict[str, Any]) -> str:
    with contextlib.closing(running.redis()) as client:
        client.lpush(Queue.billing, recording.wire(made))
    return str(made["headers"]["id"])


def kept(running: system.System, message_id: str) -> list[Any]:
    return running.query(
        "SELECT task, code, payload FROM rejected_messages WHERE message_id = :id", id=message_id
    )


def tenants(running: system.System, name: str) -> int:
    [(count,)] = running.query("SELECT count(*) FROM tenants WHERE tenant_id = :n", n=name)
    return int(count)


@pytest.mark.parametrize("keys", [KEYS, MessageKeys.parse(OLD)], ids=["current", "older"])
def test_what_a_producer_with_a_key_has_sent_runs(
    running: system.System, keys: MessageKeys
) -> None:
    sent = send(running, message("billing.set_tenant", {"tenant_id": keys.current}, keys))

    running.wait(lambda: running.producer.find_answer(sent), within=120)

    assert tenants(running, keys.current) == 1


FORGED: dict[str, tuple[str, dict[str, Any]]] = {
    "unsigned": ("message.unsigned", message("billing.set_tenant", {"tenant_id": "no-1"}, None)),
    "by a stranger": (
        "message.badly_signed",
        message("billing.set_tenant", {"tenant_id": "no-2"}, STRANGER),
    ),
    "for another task": (
        "message.badly_signed",
        message("billing.find_tenant", {"tenant_id": "no-3"}, KEYS, task="billing.set_tenant"),
    ),
    "under another id": (
        "message.badly_signed",
        message("billing.set_tenant", {"tenant_id": "no-4"}, KEYS, id=str(uuid.uuid4())),
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_nobody_with_a_key_has_sent_never_runs_and_is_kept(
    running: system.System, kind: str
) -> None:
    code, made = FORGED[kind]
    sent = send(running, made)

    running.wait(lambda: kept(running, sent), within=120)

    arguments = json.loads(made["body"])[1]
    assert kept(running, sent) == [("billing.set_tenant", code, arguments)]
    assert tenants(running, arguments["tenant_id"]) == 0
    assert running.producer.find_answer(sent) is None
    # Counted where the operator sees it, and logged without a word of what it says.
    counted = scraped(running)
    assert f'billing_messages_refused_total{{code="{code}"}}' in counted
    assert arguments["tenant_id"] not in (running.folder / "processes.log").read_text()


def scraped(running: system.System) -> str:
    """What this host has counted, as Prometheus gets it."""
    from prometheus_client import generate_latest  # noqa: PLC0415 (reads the folder when imported)

    from worker import metrics  # noqa: PLC0415

    folder = Path(running.environment["BILLING_METRICS_FOLDER"])
    return generate_latest(metrics.collected(folder)).decode()


def test_an_unsigned_recorded_message_of_a_release_is_kept(
    running: system.System, checkout: Path
) -> None:
    _, one = next(
        (at, one)
        for at, one in recorded.messages(checkout)
        if one["headers"]["task"] == "billing.add_credits"
    )
    sent = send(running, one)

    running.wait(lambda: kept(running, sent), within=120)

    assert kept(running, sent)[0][:2] == ("billing.add_credits", "message.unsigned")


def test_what_we_send_ourselves_is_signed(running: system.System) -> None:
    # By beat, each second; by a worker, which rings the sender; by a producer that was given a key.
    with contextlib.closing(UsageProducer(running.servers.broker_url, keys=KEYS)) as producer:
        producer.record(tenant_id="ours", metric="calls", amount="1", idempotency_key="1")
        producer.flush()
    assert running.query("SELECT count(*) FROM usage_events WHERE tenant_id = 'ours'") == [(1,)]
    running.wait(
        lambda: running.query("SELECT 1 FROM usage_aggregates WHERE tenant_id = 'ours'"),
        within=120,
    )
    ours = ["billing.deliver_webhooks", "billing.aggregate_usage", "billing.record_usage"]
    refused = "SELECT task, code FROM rejected_messages WHERE task = ANY(:ours)"
    assert running.query(refused, ours=ours) == []


def test_a_message_that_is_tried_again_after_its_worker_died_is_signed_again(
    running: system.System, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    sent = send(running, message("billing.test_die", {"diary": str(diary)}, KEYS))

    running.wait(lambda: kept(running, sent), within=120)

    assert kept(running, sent)[0][:2] == ("billing.test_die", "worker.lost")
    assert diary.read_text().count("began\n") == 3


def test_tasks_that_celery_brings_along_are_nobodys(running: system.System) -> None:
    arguments = {"task": {"task": "billing.set_tenant", "args": []}, "it": []}
    sent = send(running, message("celery.map", arguments, KEYS))

    running.wait(lambda: kept(running, sent), within=120)

    assert kept(running, sent)[0][:2] == ("celery.map", "task.unknown")


def test_a_worker_in_the_middle_of_the_change_takes_unsigned_ones_and_no_wrong_ones(
    running: system.System,
) -> None:
    running.terminate("worker")
    running.start_worker("lenient", BILLING_MESSAGE_SIGNATURES="optional")
    running.supervisor.wait_until_ready("lenient")

    unsigned = send(running, message("billing.set_tenant", {"tenant_id": "early"}, None))
    forged = send(running, message("billing.set_tenant", {"tenant_id": "never"}, STRANGER))

    running.wait(lambda: running.producer.find_answer(unsigned), within=120)
    running.wait(lambda: kept(running, forged), within=120)
    assert (tenants(running, "early"), tenants(running, "never")) == (1, 0)

"""Producers and workers of two releases side by side: nothing is refused, or nothing is lost."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.queues import Queue
from tests import recorded
from tests.acceptance import system
from worker import recording

pytestmark = pytest.mark.slow

NEVER = frozenset({"message.invalid", "message.unreadable", "task.unknown", "unexpected"})
"""Codes that no message of a released producer ends with, whatever it finds in the database."""

PAINT = "billing.test_paint"
WASH = "billing.test_wash"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    """Servers; each test starts the worker it needs."""
    with system.running(tmp_path_factory.mktemp("rolling")) as started:
        yield started


def start(running: system.System, name: str, include: str | None = None) -> None:
    running.start_worker(name, include=include)
    running.supervisor.wait_until_ready(name)


def kept(running: system.System, message: str) -> list[Any]:
    return running.query(
        "SELECT id, code, payload FROM rejected_messages WHERE message_id = :id AND state = 'open'",
        id=message,
    )


def test_a_worker_of_today_carries_out_every_recorded_message(
    running: system.System, checkout: Path
) -> None:
    # Of each release the fullest message of each task: what the others say is validated elsewhere.
    found = sorted(recorded.messages(checkout), key=lambda one: len(one[1]["body"]))
    chosen = {(at, one["headers"]["task"]): one for at, one in found}
    messages = list(chosen.values())
    start(running, "today")

    with contextlib.closing(running.redis()) as client:
        for message in messages:
            client.lpush(queue_of(message), recording.wire(message))
    ids = [message["headers"]["id"] for message in messages]
    running.wait(lambda: all(running.producer.find_answer(one) for one in ids), within=180)

    refused = running.query(
        "SELECT task, code, errors::text FROM rejected_messages"
        " WHERE code = ANY(:codes) AND NOT (task = :usage AND payload->>'amount' = '-1')",
        codes=sorted(NEVER),
        usage="billing.record_usage",  # one event of its chunk is meant to be refused
    )
    assert refused == []
    failed = [running.producer.find_answer(one) or {} for one in ids]
    assert not [one for one in failed if one["status"] == "FAILURE" and is_no_refusal(one)]
    # And they did what they say.
    assert running.query("SELECT 1 FROM usage_events WHERE metric = 'calls' LIMIT 1")
    assert running.query("SELECT 1 FROM tenants WHERE tenant_id = 'acme'")
    running.terminate("today")


def is_no_refusal(answer: dict[str, Any]) -> bool:
    """Whether a task failed otherwise than by refusing what it found."""
    return answer["result"]["exc_type"] == "InvalidMessage" or not answer["result"][
        "exc_module"
    ].startswith(("models.", "tasks.", "webhooks."))


def queue_of(message: dict[str, Any]) -> str:
    return str(message["properties"]["delivery_info"]["routing_key"])


def test_what_an_old_worker_can_not_take_is_kept_and_carried_out_by_the_new_one(
    running: system.System,
) -> None:
    start(running, "old", include="tests.acceptance.older")
    painted = running.producer.send(
        PAINT, {"tenant_id": "acme", "colour": "blue"}, queue=Queue.billing
    )
    washed = running.producer.send(WASH, {"tenant_id": "acme"}, queue=Queue.billing)
    running.wait(lambda: kept(running, painted) and kept(running, washed), within=120)

    [(first, first_code, first_payload)] = kept(running, painted)
    [(second, second_code, second_payload)] = kept(running, washed)
    assert (first_code, first_payload) == (
        "message.invalid",
        {"tenant_id": "acme", "colour": "blue"},
    )
    assert (second_code, second_payload) == ("task.unknown", {"tenant_id": "acme"})
    again = running.ask("billing.replay_rejected", rejected_message_id=first)
    assert (again["state"], again["code"]) == ("open", "message.invalid")

    running.terminate("old")
    start(running, "new", include="tests.acceptance.newer")

    answers = [
        running.ask("billing.replay_rejected", rejected_message_id=one) for one in (first, second)
    ]
    assert [(one["state"], one["answer"]) for one in answers] == [
        ("replayed", "acme is blue"),
        ("replayed", "acme is clean"),
    ]
    assert not kept(running, painted) + kept(running, washed)
    old_producer = running.producer.send(PAINT, {"tenant_id": "acme"}, queue=Queue.billing)
    running.wait(lambda: running.producer.find_answer(old_producer), within=120)
    assert (running.producer.find_answer(old_producer) or {})["result"] == "acme is white"

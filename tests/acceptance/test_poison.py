"""What kills its worker, what nobody can read, and what is lost with a worker that is killed."""

import base64
import contextlib
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.queues import Queue
from tests.acceptance import system

pytestmark = pytest.mark.slow

POISON = "tests.acceptance.poison"
MOST_RUNS = 3
MUCH_LONGER_THAN_THE_TEST = "600"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    """One worker with the bad tasks, whose messages come back late if at all."""
    folder = tmp_path_factory.mktemp("poison")
    with system.running(
        folder, BILLING_VISIBILITY_TIMEOUT_SECONDS=MUCH_LONGER_THAN_THE_TEST
    ) as started:
        started.start_worker("worker", include=POISON)
        started.await_ready()
        yield started


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Where the bad tasks write what they do."""
    return tmp_path / "diary"


def send(running: system.System, task: str, **arguments: Any) -> str:
    return running.producer.send(task, arguments, queue=Queue.billing)


def kept(running: system.System, message: str) -> list[Any]:
    return running.query(
        "SELECT task, code, payload FROM rejected_messages WHERE message_id = :id", id=message
    )


def answer(running: system.System, message: str, *, within: float = 60) -> Any:
    running.wait(lambda: running.producer.find_answer(message), within=within)
    found = running.producer.find_answer(message)
    assert found is not None
    assert found["status"] == "SUCCESS", found
    return found["result"]


def assert_works(running: system.System) -> None:
    name = uuid.uuid4().hex
    assert running.ask("billing.set_tenant", tenant_id=name)["tenant_id"] == name


def assert_all_children_work(running: system.System) -> None:
    """No place is lost: as many messages as there are children run side by side."""
    pool = set(running.pool_of("worker"))
    messages = [send(running, "billing.test_connection", seconds=0.2) for _ in pool]
    assert {answer(running, message)[0] for message in messages} == pool


def test_a_message_that_kills_its_worker_runs_three_times_and_is_kept(
    running: system.System, diary: Path
) -> None:
    message = send(running, "billing.test_die", diary=str(diary))
    running.wait(lambda: kept(running, message), within=120)

    assert kept(running, message) == [("billing.test_die", "worker.lost", {"diary": str(diary)})]
    assert_works(running)
    assert diary.read_text().count("began\n") == MOST_RUNS
    assert not running.query("SELECT 1 FROM tenants WHERE tenant_id = 'half-made'")
    with contextlib.closing(running.redis()) as client:
        running.wait(lambda: not client.llen(Queue.billing) + client.hlen("unacked"), within=120)


def test_a_killed_child_is_replaced_and_its_message_runs_again(
    running: system.System, diary: Path
) -> None:
    message = send(running, "billing.test_nap", diary=str(diary), seconds=2)
    running.wait(diary.exists, within=120)
    pool = set(running.pool_of("worker"))
    (child,) = (int(line) for line in diary.read_text().split() if line.isdigit())

    os.kill(child, signal.SIGKILL)

    # The worker itself sees to it: what Redis would do is far away.
    assert answer(running, message) in {*running.pool_of("worker")} - {child}
    assert diary.read_text().count("began\n") == 2
    assert child in pool
    assert len(running.pool_of("worker")) == len(pool)


def test_a_message_for_a_task_that_nobody_knows_is_kept(running: system.System) -> None:
    message = send(running, "billing.no_such_task", tenant_id="acme", amount="5")

    running.wait(lambda: kept(running, message), within=120)

    arguments = {"tenant_id": "acme", "amount": "5"}
    assert kept(running, message) == [("billing.no_such_task", "task.unknown", arguments)]
    assert_works(running)


def test_a_message_that_does_not_fit_is_kept(running: system.System) -> None:
    message = send(running, "billing.set_tenant", tenant_id="", colour="blue")

    running.wait(lambda: kept(running, message), within=120)

    arguments = {"tenant_id": "", "colour": "blue"}
    assert kept(running, message) == [("billing.set_tenant", "message.invalid", arguments)]
    assert_works(running)


def envelope(body: bytes, **changed: Any) -> bytes:
    """A message as kombu lays it into Redis, with something wrong."""
    tag = str(uuid.uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "billing.set_tenant", "id": tag, "argsrepr": "()"},
        "properties": {
            "correlation_id": tag,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "billing"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
        **changed,
    }
    return json.dumps(message).encode()


ID = "5a0c4f7e-2d0b-4a2e-9a59-3b7b2f3c9d11"


def headers(**changed: Any) -> dict[str, Any]:
    return {"task": "billing.set_tenant", "id": ID, **changed}


UNREADABLE: dict[str, Callable[[], bytes]] = {
    "a body that is no JSON": lambda: envelope(b"{not json"),
    "a body that is no UTF-8": lambda: envelope(b"\xff\xfe"),
    "a body of another shape": lambda: envelope(b'{"kwargs": 5}'),
    "a body that is a number": lambda: envelope(b"7"),
    "arguments that are a list": lambda: envelope(b'[[], ["tenant_id"], {}]'),
    "a pickle": lambda: envelope(
        b"\x80\x04.", **{"content-type": "application/x-python-serialize"}
    ),
    "no headers": lambda: envelope(b"[[], {}, {}]", headers={}),
    "a number for a name": lambda: envelope(b"[[], {}, {}]", headers={"task": 7, "id": "x"}),
    "a list for a name": lambda: envelope(b"[[], {}, {}]", headers=headers(task=["x"])),
    "a list for an id": lambda: envelope(b"[[], {}, {}]", headers=headers(id=["x"])),
    "no id": lambda: envelope(b"[[], {}, {}]", headers={"task": "billing.set_tenant"}),
    "a time limit of words": lambda: envelope(b"[[], {}, {}]", headers=headers(timelimit="soon")),
    "time limits of words": lambda: envelope(
        b"[[], {}, {}]", headers=headers(timelimit=["soon", None])
    ),
    "three time limits": lambda: envelope(b"[[], {}, {}]", headers=headers(timelimit=[1, 2, 3])),
    "retries of words": lambda: envelope(b"[[], {}, {}]", headers=headers(retries="many")),
    "an hour to come that is none": lambda: envelope(b"[[], {}, {}]", headers=headers(eta=[1])),
    "headers that are a list": lambda: envelope(b"[[], {}, {}]", headers=["task"]),
    "no delivery tag": lambda: envelope(b"[[], {}, {}]", properties={"delivery_info": {}}),
    "no properties": lambda: envelope(b"[[], {}, {}]", properties={}),
    "no envelope but JSON": lambda: b'{"tenant_id": "acme"}',
    "no envelope and no JSON": lambda: b"rubbish",
    "not even text": lambda: b"\xff\x00\xfe",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_nobody_can_read_does_not_stop_the_worker(running: system.System, kind: str) -> None:
    pid = running.pid("worker")
    with contextlib.closing(running.redis()) as client:
        client.lpush(Queue.billing, UNREADABLE[kind]())

        assert_all_children_work(running)
        # A message is taken off a moment after its answer has been given.
        running.wait(lambda: not client.llen(Queue.billing) + client.hlen("unacked"), within=120)

    assert running.pid("worker") == pid
    assert "worker" in running.supervisor.pids()


def test_a_message_of_another_shape_is_kept_as_it_came(running: system.System) -> None:
    with contextlib.closing(running.redis()) as client:
        client.lpush(Queue.billing, envelope(b'{"amount": "5"}', headers=headers(id="odd-one")))

    running.wait(lambda: kept(running, "odd-one"), within=120)

    said = {"payload": {"amount": "5"}}
    assert kept(running, "odd-one") == [("billing.set_tenant", "message.unreadable", said)]


def test_children_share_no_connection(running: system.System) -> None:
    # Those that replace others are forked from a parent that has connections of its own by then.
    first = set(running.pool_of("worker"))
    for child in first:
        os.kill(child, signal.SIGKILL)
    running.wait(lambda: len(set(running.pool_of("worker")) - first) == len(first), within=60)
    messages = [send(running, "billing.test_connection", seconds=0.3) for _ in range(8)]
    pairs = {tuple(answer(running, message)) for message in messages}

    # Each child keeps its own connection, and so each has another server process behind it.
    assert {child for child, _ in pairs} == set(running.pool_of("worker"))
    assert len({backend for _, backend in pairs}) == len(pairs) == len({one for one, _ in pairs})
    # What the parent held before the fork is in no child.
    parent = system.sockets_of(running.pid("worker"))
    one, other = (system.sockets_of(pid) for pid in running.pool_of("worker"))
    assert parent
    assert one
    assert other
    assert not parent & one | one & other | other & parent


def test_a_message_whose_worker_was_killed_runs_again_elsewhere(
    running: system.System, diary: Path
) -> None:
    message = send(running, "billing.test_nap", diary=str(diary), seconds=3)
    running.wait(diary.exists, within=120)

    os.kill(running.pid("worker"), signal.SIGKILL)
    visible_again = str(system.VISIBILITY_TIMEOUT_SECONDS)
    running.start_worker("other", include=POISON, BILLING_VISIBILITY_TIMEOUT_SECONDS=visible_again)

    # It was the dead worker's: Redis gives it out again after the visibility timeout.
    answer(running, message, within=120)
    assert diary.read_text().count("began\n") == 2

"""Flower as it runs: every task by its name, how it went and what it was given, but no secret."""

import base64
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tasks.queues import Queue
from tests import processes
from tests.acceptance import system
from worker import masking, programs

pytestmark = pytest.mark.slow

PASSWORD = "user:of-pages"
SECRET = "hunter2"
LATE = "600"
"""Seconds until the broker gives a message out again: much longer than the test."""


@dataclass(slots=True)
class Flower:
    """A running Flower. `stop` and `start` are those of a service manager."""

    running: system.System
    port: int
    state: Path

    def start(self) -> None:
        invocation = programs.flower(address="127.0.0.1", port=self.port, state=self.state)
        environment = {**invocation.environment, "FLOWER_BASIC_AUTH": PASSWORD}
        self.running._start("flower", list(invocation.command), environment)
        self.wait(lambda: self.status("/healthcheck") == 200)

    def await_ears(self) -> None:
        """Return once it hears: nobody tells it of what was said before."""
        asked = {"tenant_id": "acme"}
        known = self.tasks().keys()
        send = self.running.producer.send
        self.wait(lambda: send("billing.set_tenant", asked) and self.tasks().keys() - known)

    def stop(self) -> None:
        self.running.supervisor.stop("flower")

    def get(self, path: str, *, password: str | None = PASSWORD) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if password is not None:
            token = base64.b64encode(password.encode()).decode()
            request.add_header("authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (our own server)
            return answer.read().decode()

    def status(self, path: str, *, password: str | None = PASSWORD) -> int:
        try:
            self.get(path, password=password)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0
        return 200

    def post(self, path: str) -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=b"{}", method="POST"
        )
        request.add_header("authorization", f"Basic {base64.b64encode(PASSWORD.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (as above)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def tasks(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/tasks"))
        return found

    def task(self, task_id: str, *, state: str) -> dict[str, Any]:
        """Return what it says of a task once that is in a state."""
        self.wait(lambda: self.tasks().get(task_id, {}).get("state") == state)
        found: dict[str, Any] = self.tasks()[task_id]
        return found

    def wait(self, until: Callable[[], object]) -> None:
        self.running.wait(until, within=120)


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """A worker with Flower beside it, which hears it."""
    folder = tmp_path_factory.mktemp("flower")
    with system.running(folder, BILLING_VISIBILITY_TIMEOUT_SECONDS=LATE) as running:
        running.start_worker("worker", include="tests.acceptance.poison")
        running.await_ready()
        found = Flower(running, processes.free_port(), folder / "state")
        found.start()
        found.await_ears()
        yield found


def send(flower: Flower, task: str, **arguments: Any) -> str:
    return flower.running.producer.send(task, arguments)


def test_without_the_password_it_shows_nothing(flower: Flower) -> None:
    for path in ("/", "/tasks", "/workers", "/api/tasks", "/api/workers"):
        assert flower.status(path, password=None) == 401
        assert flower.status(path, password="user:wrong") == 401
        assert flower.status(path) == 200


def test_it_changes_nothing(flower: Flower) -> None:
    assert flower.post("/api/task/async-apply/billing.purge") == 403
    assert flower.post("/api/worker/shutdown/worker") == 403


def test_a_task_is_shown_by_name_with_arguments_answer_and_times(flower: Flower) -> None:
    sent = send(
        flower,
        "billing.record_usage",
        tenant_id="acme",
        metric="calls",
        amount="3",
        idempotency_key="first",
        metadata={"model": "atlas"},
    )

    shown = flower.task(sent, state="SUCCESS")
    assert shown["name"] == "billing.record_usage"
    assert "'metadata': {'model': 'atlas'}" in shown["kwargs"]
    assert "'accepted': 1" in shown["result"]
    assert shown["runtime"] > 0
    assert shown["received"] <= shown["started"] <= shown["succeeded"]
    assert shown["retries"] == 0
    assert shown["worker"].startswith("worker@")


def test_of_a_task_with_secrets_all_else_is_shown(flower: Flower) -> None:
    made = send(
        flower,
        "billing.create_endpoint",
        url="http://127.0.0.1:9/",
        topics=["billing.*"],
        tenant_id="acme",
        headers={"authorization": SECRET},
        idempotency_key="endpoint",
    )
    flower.task(made, state="SUCCESS")
    answer = flower.running.producer.find_answer(made)
    assert answer is not None
    rotated = send(
        flower,
        "billing.rotate_endpoint_secret",
        endpoint_id=answer["result"]["endpoint_id"],
        idempotency_key="rotate",
    )
    flower.task(rotated, state="SUCCESS")
    other = flower.running.producer.find_answer(rotated)
    assert other is not None
    secrets = [answer["result"]["secret"], other["result"]["secret"], SECRET]

    shown = flower.tasks()[made]
    assert shown["result"] == masking.MASK
    assert f"'headers': '{masking.MASK}'" in shown["kwargs"]
    assert "'tenant_id': 'acme'" in shown["kwargs"]
    pages = [
        flower.get(path)
        for path in ("/api/tasks", f"/api/task/info/{made}", f"/task/{made}", f"/task/{rotated}")
    ]
    assert all(secret.startswith("whsec_") for secret in secrets[:2])
    assert not [secret for secret in secrets for page in pages if secret in page]


def test_a_task_that_is_refused_is_shown_with_its_reason(flower: Flower) -> None:
    sent = send(
        flower,
        "billing.consume_quota",
        tenant_id="acme",
        product_key="NOPE",
        amount="1",
        idempotency_key="use",
    )

    shown = flower.task(sent, state="FAILURE")
    assert shown["name"] == "billing.consume_quota"
    assert "NOPE" in shown["exception"]


def test_a_task_whose_process_is_killed_is_shown_to_be_tried_again(
    flower: Flower, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    sent = flower.running.producer.send(
        "billing.test_nap", {"diary": str(diary), "seconds": 1}, queue=Queue.billing
    )
    flower.wait(diary.exists)
    (child,) = (int(line) for line in diary.read_text().split() if line.isdigit())

    os.kill(child, signal.SIGKILL)

    shown = flower.task(sent, state="SUCCESS")
    assert shown["retries"] == 1
    assert shown["retried"]
    assert shown["runtime"] >= 1


def test_what_a_producer_of_another_make_tells_is_masked(flower: Flower) -> None:
    """Its message waits: nobody consumes the queue."""
    with Celery(broker=flower.running.servers.broker_url, set_as_current=False) as stranger:
        stranger.conf.task_send_sent_event = True
        sent = stranger.send_task(
            "billing.create_endpoint",
            kwargs={"url": "http://127.0.0.1:9/", "headers": {"x": SECRET}},
            queue="nobody",
        )

        shown = flower.task(sent.id, state="PENDING")

    assert shown["kwargs"] == f"{{'url': 'http://127.0.0.1:9/', 'headers': '{masking.MASK}'}}"
    assert SECRET not in flower.get("/api/tasks")


def test_what_it_has_seen_outlives_it(flower: Flower) -> None:
    before = flower.tasks()

    flower.stop()
    assert list(flower.state.parent.glob("state*"))
    flower.start()

    after = flower.tasks()
    assert before.keys() <= after.keys()
    for name in ("name", "state", "kwargs", "result", "runtime", "retries"):
        for task_id, task in before.items():
            assert after[task_id][name] == task[name]
    flower.await_ears()


def test_it_says_nothing_but_lines_of_json(flower: Flower) -> None:
    lines = (flower.running.folder / "processes.log").read_text().splitlines()
    said = [line.removeprefix("flower: ") for line in lines if line.startswith("flower: ")]
    assert all(json.loads(line)["event"] for line in said)
    assert not [line for line in said if PASSWORD.partition(":")[2] in line or SECRET in line]

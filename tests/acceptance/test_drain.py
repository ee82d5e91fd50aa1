"""SIGTERM in the middle of work, with somebody there to take over: nothing is lost or done twice.

Spans wait an hour before they are sent, so those that came were sent at the end of a process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.queues import Queue
from tests import receiver as far_end
from tests.acceptance import system
from tests.collector import Collector
from tests.receiver import Answer
from worker import settings

pytestmark = pytest.mark.slow

MUCH_LONGER_THAN_THE_TEST = "600"
WAITING = {
    "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    "OTEL_BSP_MAX_QUEUE_SIZE": "100000",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100000",
}
"""An hour, in milliseconds, and more of them than a test makes."""

POISON = "tests.acceptance.poison"
NAPS = 6
"""As many as the first worker takes; its two processes begin two of them."""

SLOW = 1.0
"""Seconds that the subscriber takes for an answer: some are on their way when the sender ends."""

EVENTS = 20
STREAMED = 20_000
RARE, RARE_TASK = "tell of expiring credit", "billing.notify_expiring_credits"
OFTEN_TASK = "billing.deliver_webhooks"
GRANTED = "billing.credits_granted"


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[system.System]:
    """A worker for everything, which takes more than it can begin."""
    with system.running(
        tmp_path_factory.mktemp("drain"),
        BILLING_VISIBILITY_TIMEOUT_SECONDS=MUCH_LONGER_THAN_THE_TEST,
        BILLING_SOFT_SHUTDOWN_SECONDS="30",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        **WAITING,
    ) as started:
        started.start_worker("worker", include=POISON, flags=["--prefetch-multiplier=3"])
        started.await_ready()
        started.ask("billing.set_product", product_key="CALLS", name="Calls", type="quantity")
        yield started


@pytest.fixture
def working(running: system.System) -> system.System:
    """The same, with a worker: the test before has ended one."""
    take_over(running)
    return running


def take_over(running: system.System) -> None:
    """Start another worker in the place of one that has ended."""
    if "worker" not in running.supervisor.pids():
        running.restart("worker")
        running.supervisor.wait_until_ready("worker")


def names(collector: Collector) -> set[str]:
    return {span.name for span in list(collector.spans)}


def unacknowledged(running: system.System) -> int:
    with contextlib.closing(running.redis()) as client:
        held: Any = client.hlen("unacked")
    return int(held)


def rung(running: system.System) -> Counter[str]:
    """How often each task waits in a queue, rung by beat."""
    with contextlib.closing(running.redis()) as client:
        waiting: list[Any] = []
        for queue in Queue:
            found: Any = client.lrange(queue.value, 0, -1)
            waiting += found
    headers = [json.loads(one)["headers"] for one in waiting]
    return Counter(one["task"] for one in headers if one.get("celery_beat_task"))


def test_what_runs_ends_here_and_what_was_only_taken_runs_elsewhere(
    working: system.System, tmp_path: Path
) -> None:
    running = working
    diary = tmp_path / "diary"
    napping = {"diary": str(diary), "seconds": 4}
    sent = [
        running.producer.send("billing.test_nap", napping, queue=Queue.billing) for _ in range(NAPS)
    ]
    running.wait(lambda: diary.exists() and diary.read_text().count("began\n") == 2, within=120)
    running.wait(lambda: unacknowledged(running) == NAPS, within=120)
    pool = set(running.pool_of("worker"))

    running.terminate("worker")

    assert unacknowledged(running) == 0
    begun = diary.read_text().count("began\n")
    assert 2 <= begun < NAPS
    assert diary.read_text().count("woke\n") == begun
    take_over(running)
    running.wait(lambda: all(map(running.producer.find_answer, sent)), within=120)
    answers = [(running.producer.find_answer(one) or {})["result"] for one in sent]
    assert sum(pid in pool for pid in answers) == begun
    assert diary.read_text().count("began\n") == NAPS
    assert diary.read_text().count("woke\n") == NAPS


def test_a_sender_ends_its_attempts_and_another_makes_the_rest(
    working: system.System, collector: Collector
) -> None:
    running = working
    with far_end.receiver(Answer(delay=SLOW)) as receiver:
        running.ask("billing.set_tenant", tenant_id="acme")
        running.ask(
            "billing.create_endpoint",
            tenant_id="acme",
            url=receiver.url,
            topics=[GRANTED],
            idempotency_key="endpoint",
        )
        for number in range(EVENTS):
            grant = {"tenant_id": "acme", "product_key": "CALLS", "amount": "1"}
            named = {"source": "bonus", "idempotency_key": f"grant {number}"}
            running.producer.send("billing.add_credits", {**grant, **named})
        running.wait(lambda: len(receiver.requests) >= 3, within=120)
        made = {f"deliver {GRANTED}", "process billing.add_credits", "ending.write"}
        assert not made & names(collector)

        running.terminate("worker")

        on_their_way = len(receiver.requests)
        assert on_their_way < EVENTS
        assert running.query("SELECT count(*) FROM delivery_leases") == [(0,)]
        written = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'delivered'"
        assert running.query(written) == [(on_their_way,)]
        # What the pool's processes did, the sender's among them, was told before they ended.
        assert made <= names(collector)

        take_over(running)
        running.wait(lambda: running.query(written) == [(EVENTS,)], within=120)
        assert sorted(Counter(receiver.ids).values()) == [1] * EVENTS


def test_the_stream_is_left_between_two_chunks_and_drained_by_the_next(
    working: system.System,
) -> None:
    running = working
    with contextlib.closing(running.redis()) as client, client.pipeline() as pipeline:
        for number in range(STREAMED):
            event = {"tenant_id": "acme", "metric": "calls", "amount": "1"}
            line = json.dumps({**event, "idempotency_key": f"{number}"})
            pipeline.xadd("billing:usage", {"event": line})
        pipeline.execute()
    stored = "SELECT count(*) FROM usage_events"
    running.producer.send("billing.drain_usage_stream", {})
    running.wait(lambda: running.query(stored) != [(0,)], within=120)

    running.terminate("worker")

    with contextlib.closing(running.redis()) as client:
        waiting: Any = client.xlen("billing:usage")
        held: Any = client.xpending("billing:usage", "billing")
    ((there,),) = running.query(stored)
    assert there + waiting == STREAMED
    assert held["pending"] == 0
    take_over(running)
    while left := running.ask("billing.drain_usage_stream")["entries"]:
        waiting -= left
    assert (waiting, running.query(stored)) == (0, [(STREAMED,)])


def test_a_command_tells_of_what_it_did_before_it_ends(
    running: system.System, collector: Collector
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker", "audit"],
        cwd=settings.ROOT,
        env={**os.environ, **running.environment},
        check=False,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    assert "call billing.audit" in names(collector)


def test_beat_rings_after_a_restart_what_fell_due_and_nothing_twice(
    working: system.System, collector: Collector, tmp_path: Path
) -> None:
    running = working
    state = tmp_path / "state.json"
    running.terminate("worker")
    running.flush_redis()
    running.start_beat(swift=False, state=state)
    running.wait(lambda: rung(running)[OFTEN_TASK] >= 2, within=120)
    assert rung(running)[RARE_TASK] == 1

    running.terminate("beat")

    told = {f"send {task}" for task in rung(running)}
    assert told <= names(collector)
    often = rung(running)[OFTEN_TASK]
    running.restart("beat")
    running.wait(lambda: rung(running)[OFTEN_TASK] > often, within=120)
    assert rung(running)[RARE_TASK] == 1

    # Killed while the bell is due: the pause was longer than its interval.
    os.kill(running.pid("beat"), signal.SIGKILL)
    running.wait(lambda: "beat" not in running.supervisor.pids(), within=120)
    remembered = json.loads(state.read_text())
    state.write_text(json.dumps({**remembered, RARE: "2026-01-01T00:00:00+00:00"}))
    running.restart("beat")
    running.wait(lambda: rung(running)[RARE_TASK] == 2, within=120)
    often = rung(running)[OFTEN_TASK]
    running.wait(lambda: rung(running)[OFTEN_TASK] > often, within=120)
    assert rung(running)[RARE_TASK] == 2

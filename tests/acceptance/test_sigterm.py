"""SIGTERM to a busy worker: it finishes what it can, gives back the rest, and leaves nothing stuck.

The visibility timeout is far away in these tests: whatever comes back was given back.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.queues import Queue
from tests.acceptance import books, story, system
from tests.acceptance.story import TENANTS

pytestmark = pytest.mark.slow

MUCH_LONGER_THAN_THE_TEST = "600"
POISON = "tests.acceptance.poison"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    """A worker for everything, with tasks that take as long as they are told."""
    folder = tmp_path_factory.mktemp("sigterm")
    with system.running(
        folder, BILLING_VISIBILITY_TIMEOUT_SECONDS=MUCH_LONGER_THAN_THE_TEST
    ) as started:
        started.start_worker("worker", include=POISON)
        started.await_ready()
        yield started


def unacknowledged(running: system.System) -> int:
    with contextlib.closing(running.redis()) as client:
        held: Any = client.hlen("unacked")
    return int(held)


def test_what_does_not_end_in_time_is_given_back_and_runs_elsewhere(
    running: system.System, tmp_path: Path
) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    napping = [
        running.producer.send(
            "billing.test_nap", {"diary": str(diary), "seconds": seconds}, queue=Queue.billing
        )
        for diary, seconds in ((short, 1), (long, system.SOFT_SHUTDOWN_SECONDS + 2))
    ]
    running.wait(lambda: short.exists() and long.exists(), within=120)

    running.terminate("worker")

    assert running.producer.find_answer(napping[0])
    assert not running.producer.find_answer(napping[1])
    assert unacknowledged(running) == 0
    running.restart("worker")
    running.wait(lambda: running.producer.find_answer(napping[1]), within=120)
    assert short.read_text().count("began\n") == 1
    assert long.read_text().count("began\n") == 2
    assert long.read_text().count("woke\n") == 1


def test_a_busy_worker_loses_nothing_and_leaves_nothing_stuck(running: system.System) -> None:
    told = story.build(8, chunks=6, size=400)
    books.open_accounts(running)
    messages = [
        running.producer.send(task, arguments)
        for tenant in TENANTS
        for task, arguments in [*told.usage(tenant), ("billing.aggregate_usage", {})]
    ]
    running.wait(lambda: running.producer.find_answer(messages[7]), within=120)

    # In the middle of it: events still to be stored, and deliveries on their way.
    running.terminate("worker")

    assert not all(running.producer.find_answer(message) for message in messages)
    assert unacknowledged(running) == 0
    assert running.query("SELECT count(*) FROM delivery_leases") == [(0,)]

    running.restart("worker")
    # Not one is sent again: each message is answered, by the old worker or by the new one.
    running.wait(
        lambda: all(running.producer.find_answer(message) for message in messages), within=120
    )
    running.ask("billing.aggregate_usage")
    running.ask("billing.deliver_webhooks")
    books.await_deliveries(running)
    books.assert_usage(running, told)
    books.assert_delivered(running)

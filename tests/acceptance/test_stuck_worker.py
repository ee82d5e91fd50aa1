"""The recipe for a worker that is stuck: seen by its message, ended, and the message runs again."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import text

from models import database
from tasks.queues import Queue
from tests.acceptance import system
from tests.acceptance.recipes import blocks, shell

pytestmark = pytest.mark.slow

MUCH_LONGER_THAN_THE_TEST = "600"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def test_a_stuck_process_is_found_and_ended_and_its_message_runs_again(
    tmp_path: Path, checkout: Path
) -> None:
    recipe = blocks(checkout / "docs" / "operations.md")
    [see], [end] = recipe["stuck-see"], recipe["stuck-end"]
    with system.running(
        tmp_path, BILLING_VISIBILITY_TIMEOUT_SECONDS=MUCH_LONGER_THAN_THE_TEST
    ) as running:
        running.start_worker("worker", queues=[Queue.billing], concurrency=1)
        running.await_ready()
        [child] = running.pool_of("worker")
        with database.engine().begin() as ours:
            ours.execute(text("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE"))
            message = running.producer.send("billing.set_tenant", {"tenant_id": "acme"})
            running.wait(lambda: running.query(WAITING) != [(0,)], within=120)
            os.kill(child, signal.SIGSTOP)  # in mid-transaction; from here on it does nothing more
        try:

            def active() -> dict[str, int]:
                with contextlib.suppress(AssertionError):  # a busy worker answers the next time
                    said = json.loads(shell(see, running.environment))
                    return {one["id"]: one["worker_pid"] for ran in said.values() for one in ran}
                return {}

            seen: dict[str, int] = {}
            running.wait(lambda: seen or seen.update(active()), within=120)
            assert seen == {message: child}
            assert running.producer.find_answer(message) is None

            shell(end, {"WORKER_PID": str(seen[message])})

            running.wait(lambda: running.producer.find_answer(message), within=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        answer = running.producer.find_answer(message)
        assert answer is not None
        assert answer["status"] == "SUCCESS"
        assert running.query("SELECT tenant_id FROM tenants") == [("acme",)]
        assert running.query("SELECT count(*) FROM rejected_messages") == [(0,)]

"""What processes count is added up in one place, and no figure falls when one of them dies."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests import receiver as far_end
from tests.acceptance import system
from tests.architecture import test_monitoring
from worker import metrics, settings

MONITORING = settings.ROOT / "examples" / "monitoring"
WORD = test_monitoring.WORD
USAGE = "billing_usage_ingest_total"


def figures(text: str) -> dict[str, float]:
    """Return each sample by its name and labels."""
    samples = re.findall(r"^(\w+(?:\{[^}]*\})?) ([\d.e+]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in samples}


def expressions() -> Iterator[str]:
    """What alerts and dashboard ask for."""
    for rule in test_monitoring.rules(MONITORING):
        yield rule["expr"]
    for panel in test_monitoring.panels(MONITORING):
        yield from (target["expr"] for target in panel["targets"])


def deliver(running: system.System) -> None:
    """Roll usage up, and have one webhook sent."""
    with far_end.receiver() as receiver:
        running.ask("billing.aggregate_usage")
        running.ask(
            "billing.create_endpoint",
            tenant_id="acme",
            url=receiver.url,
            topics=["billing.ping"],
            idempotency_key="endpoint",
        )
        (endpoint,) = running.ask("billing.list_endpoints", tenant_id="acme")["endpoints"]
        running.ask(
            "billing.ping_endpoint", endpoint_id=endpoint["endpoint_id"], idempotency_key="ping"
        )
        written = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'delivered'"
        running.wait(lambda: running.query(written) == [(1,)], within=120)


def billing(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *words],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def test_without_a_folder_it_says_what_to_set() -> None:
    answer = billing("metrics", "--once", "--host-only", BILLING_METRICS_FOLDER="")

    assert answer.returncode == 2
    assert "BILLING_METRICS_FOLDER is not set" in answer.stderr


def test_servers_that_are_away_are_figures_and_lines_of_a_log_apart() -> None:
    answer = billing(
        "metrics",
        "--once",
        DATABASE_URL="postgresql://127.0.0.1:1/x",
        BROKER_URL="redis://127.0.0.1:1/0",
        BILLING_LOG="json",
    )

    assert figures(answer.stdout) == {"billing_database_up": 0, "billing_broker_up": 0}
    assert all(line.startswith(("#", "billing_")) for line in answer.stdout.splitlines())
    said = [json.loads(line)["event"] for line in answer.stderr.splitlines()]
    assert said == ["metrics.database_away", "metrics.broker_away"]


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()

    with pytest.raises(settings.InvalidSettings, match=f"BILLING_METRICS_FOLDER is {taken}/x"):
        metrics.count_in(taken / "x")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server of what is counted in a folder."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "worker", "metrics", "--host-only", "--port", "0"],
        env={**os.environ, "BILLING_METRICS_FOLDER": str(tmp_path / "metrics")},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield line.split()[-1]
        server.terminate()
        assert server.wait(20) == 0


@pytest.mark.slow
def test_counts_of_several_workers_add_up_and_outlive_them(served: str, tmp_path: Path) -> None:
    def count() -> dict[str, float]:
        with urlopen(served) as answer:  # noqa: S310 (our own server)
            return figures(answer.read().decode())

    def send(first: int) -> None:
        events = [
            {"tenant_id": "acme", "metric": "api", "amount": 1, "idempotency_key": f"k{number}"}
            for number in range(first, first + 10)
        ]
        running.producer.send_all([("billing.record_usage", {"events": [*events, {"bad": 1}]})])

    def examined() -> dict[str, dict[str, str]]:
        """Look for workers that have never heard beat."""
        ended = billing("doctor", "--json", "--only", "workers", **running.environment)
        assert ended.returncode == 1, ended.stderr
        return {one["subject"]: one for one in json.loads(ended.stdout)}

    folder = str(tmp_path / "metrics")
    with system.running(tmp_path, BILLING_METRICS_FOLDER=folder) as running:
        running.start_worker("first")
        running.start_worker("second")
        running.await_ready()
        for first in range(0, 100, 10):
            send(first)
        running.wait(lambda: count().get(f'{USAGE}{{verdict="rejected"}}') == 10, within=120)
        running.kill("first")
        send(0)
        running.wait(lambda: count().get(f'{USAGE}{{verdict="duplicate"}}') == 10, within=120)

        deliver(running)
        found = count()
        # One that answers too late, on a busy machine, is not there; nobody rings them.
        running.wait(lambda: examined()["beat"]["verdict"] == "fail", within=120)
        once = billing("metrics", "--once", **running.environment)

    assert found[f'{USAGE}{{verdict="accepted"}}'] == 100
    task = 'task="billing.record_usage"'
    assert found[f'billing_tasks_total{{outcome="success",{task}}}'] == 11
    assert found[f"billing_task_duration_seconds_count{{{task}}}"] == 11
    whole = figures(once.stdout)
    assert whole[f'{USAGE}{{verdict="accepted"}}'] == 100
    # Nobody has found anything, and that is shown: growth from nothing would not be seen.
    assert whole['billing_credit_findings_total{check="ledger"}'] == 0
    assert whole["billing_usage_drift_total"] == 0
    told = {name.partition("{")[0] for name in whole}
    asked = {word for expression in expressions() for word in WORD.findall(expression)}
    # No provider of invoices is set.
    assert asked - told == {"billing_sync_steps_total"}
    assert not re.search("acme|tenant_id", once.stdout)

"""`billing up`: the whole system on this machine, for whoever works on it."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from worker import local, masking, settings, stack

pytestmark = pytest.mark.slow

SECONDS = 120.0
"""How long anything here may take on a busy machine."""

SECRET = "hunter2"
NAME = "Acme of Acme Street"


@dataclass(frozen=True, slots=True)
class Up:
    """A running `billing up`."""

    process: subprocess.Popen[str]
    lines: list[str]
    environment: dict[str, str]
    folder: Path
    port: int

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `billing …` as another terminal would."""
        return subprocess.run(
            [sys.executable, "-m", "worker", *words],
            cwd=settings.ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def page(self, path: str) -> str:
        """Get one of Flower's pages; nothing while there is none, as of a task not yet heard of."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        password = (self.folder / settings.FLOWER_BASIC_AUTH_FILE).read_text().strip()
        request.add_header("authorization", f"Basic {base64.b64encode(password.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (our own server)
                text: str = answer.read().decode()
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            error.close()
            return ""
        return text

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        parsed = [json.loads(line) for line in list(self.lines)]
        return [line for line in parsed if line["event"] == name]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """`billing up` with a data folder of its own, ready."""
    folder, port = tmp_path / "up", free_port()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BILLING_") and name not in {"DATABASE_URL", "BROKER_URL"}
    }
    environment = {**inherited, "BILLING_LOCAL_FOLDER": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "up", "--port", str(port)],
        cwd=settings.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=read, args=(process, lines), daemon=True)
    reader.start()
    running = Up(process, lines, environment, folder, port)
    try:
        eventually(lambda: running.events("ready") or process.poll() is not None)
        assert process.poll() is None, lines
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        reader.join(SECONDS)
        local.clear(folder)


def test_a_developer_starts_everything_and_stops_it_with_ctrl_c(up: Up) -> None:
    command = ("call", "billing.set_tenant", f'{{"tenant_id": "acme", "name": "{NAME}"}}')
    answered = up.call(*command)

    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["name"] == NAME
    task_id = answered.stderr.split()[-1]
    eventually(lambda: finished_lines(up, task_id))
    (finished,) = finished_lines(up, task_id)
    assert finished["outcome"] == "success"
    assert finished["task"] == "billing.set_tenant"
    assert finished["tenant_id"] == "acme"
    assert finished["milliseconds"] >= 0
    assert finished["process"] == "worker"
    assert "billing.set_tenant" in first_page(up, task_id, command)

    refused = up.call(
        "call",
        "billing.set_tenant",
        json.dumps({"tenant_id": "acme", "headers": {"authorization": SECRET}}),
    )

    assert refused.returncode == 1
    assert "headers" in refused.stderr
    listed = up.call("rejected", "list")
    assert "billing.set_tenant" in listed.stdout
    refused_id = refused.stderr.splitlines()[0].split()[-1]
    eventually(lambda: masking.MASK in up.page(f"/task/{refused_id}"))
    assert SECRET not in up.page(f"/task/{refused_id}")
    assert not [line for line in up.lines if SECRET in line]

    # From a producer of another make: no such task, and yet not lost.
    with producer(up) as stranger:
        stranger.send_task("billing.nope", kwargs={"secret": SECRET}, queue="billing")
    eventually(lambda: "task.unknown" in {line["code"] for line in up.events("task.rejected")})
    assert "billing.nope" in up.call("rejected", "list").stdout
    assert not [line for line in up.lines if SECRET in line]

    # Where `billing up` sends to, a command beside it makes an endpoint.
    made = up.call("endpoint", "create", "http://127.0.0.1:8099/hooks", "--tenant", "acme")
    assert made.returncode == 0, made.stderr

    examined = up.call("doctor", "--json")
    verdicts = {one["subject"]: one["verdict"] for one in json.loads(examined.stdout)}
    assert "fail" not in verdicts.values(), examined.stdout
    assert verdicts["beat"] == "ok"
    assert verdicts["master keys"] == "ok"

    again = up.call("up", "--no-flower")
    assert again.returncode == 2
    assert again.stderr.startswith("billing: the embedded servers of")
    assert len(again.stderr.splitlines()) == 1

    everyone = descendants(up.process.pid)
    assert len(everyone) >= 8  # two servers, two workers with pools, beat, Flower
    up.process.send_signal(signal.SIGINT)
    up.process.send_signal(signal.SIGINT)

    assert up.process.wait(SECONDS) == 0
    eventually(lambda: not (everyone & set(parents())))
    assert local.find(up.folder) is None
    # Nothing new is rung while what runs is done, and what that told of could still be sent.
    ends = ["beat ended", "worker ended", "webhooks and flower ended", "stopped"]
    eventually(lambda: own_events(up)[-len(ends) :] == ends)
    assert "drain the usage stream" in json.loads((up.folder / stack.BEAT_STATE).read_text())
    assert (up.folder / settings.MASTER_KEYS_FILE).exists()
    # What Flower has seen, and no word of its password.
    assert list((up.folder / stack.FLOWER_STATE).parent.iterdir())
    password = (up.folder / settings.FLOWER_BASIC_AUTH_FILE).read_text().strip().partition(":")[2]
    assert not [line for line in up.lines if password in line]


def own_events(up: Up) -> list[str]:
    """What the command itself has said, and none of its processes."""
    said = map(json.loads, list(up.lines))
    return [line["event"] for line in said if line["process"] == "billing"]


def finished_lines(up: Up, task_id: str) -> list[dict[str, Any]]:
    """What was said of the end of a call, which may be after its answer."""
    return [line for line in up.events("task.finished") if line["task_id"] == task_id]


def first_page(up: Up, task_id: str, command: tuple[str, ...]) -> str:
    """Flower's page of a call; of another one if it did not yet listen at the time of that."""
    asked = [task_id]

    def shown() -> list[str]:
        found = [text for one in asked if NAME in (text := up.page(f"/task/{one}"))]
        if not found:
            asked.append(up.call(*command).stderr.split()[-1])
        return found

    eventually(shown)
    return shown()[0]


def test_a_worker_that_is_killed_is_replaced_and_nobody_outlives_us(up: Up) -> None:
    (worker,) = [
        pid
        for pid, parent in parents().items()
        if parent == up.process.pid and "--queues=usage,billing" in words(pid)
    ]

    os.kill(worker, signal.SIGKILL)
    eventually(lambda: [line for line in up.lines if "starting it again" in line])
    answered = up.call("call", "billing.set_tenant", '{"tenant_id": "acme"}')
    assert answered.returncode == 0, answered.stderr

    everyone = descendants(up.process.pid)
    up.process.kill()
    up.process.wait(SECONDS)

    eventually(lambda: not (everyone & set(parents())))


def producer(up: Up) -> Celery:
    """An application that knows nothing of ours but the broker."""
    servers = local.find(up.folder)
    assert servers is not None
    return Celery(broker=servers.broker_url, set_as_current=False)


def read(process: subprocess.Popen[str], lines: list[str]) -> None:
    """Collect what a process says."""
    assert process.stdout is not None
    with process.stdout:
        lines.extend(iter(process.stdout.readline, ""))


def eventually(holds: Callable[[], object]) -> None:
    """Return when something holds; fail when it does not within SECONDS."""
    pause = threading.Event()
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        pause.wait(0.1)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def parents() -> dict[int, int]:
    """The parent of every process that runs; those that wait to be reaped are left out."""
    answer = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in answer.stdout.splitlines()]
    return {int(pid): int(parent) for pid, parent, state, *_ in rows if not state.startswith("Z")}


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    table = parents()
    found: set[int] = set()
    grown = {pid}
    while grown:
        grown = {child for child, parent in table.items() if parent in grown}
        found |= grown
    return found


def words(pid: int) -> str:
    """The command line of a process."""
    answer = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout

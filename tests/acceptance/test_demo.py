"""`billing demo`, as a person runs it: what it answers, and that it leaves nothing behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from tests.acceptance import page
from worker import local, settings
from worker.demo.page import render
from worker.local import guard

pytestmark = pytest.mark.slow

DEMO_SECONDS = 240.0
GONE_SECONDS = 20.0
INTERRUPTED = 130
DOCUMENTED = {
    "events_sent",
    "events_accepted",
    "events_duplicate",
    "events_rejected",
    "totals_match",
    "invoices",
    "deliveries",
    "deliveries_verified",
    "seconds",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo keeps its data: not where the developer's own demo does."""
    return tmp_path / "demo"


@contextlib.contextmanager
def demo(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run it in a process group of its own, as a terminal would."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "demo", "--json"],
        cwd=settings.ROOT,
        env={**os.environ, "BILLING_DEMO_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def processes_of(folder: Path) -> set[int]:
    """Every process that has the demo's folder in its environment or its command.

    Its children inherit the variable; the servers, whose environment is bare, name their data.
    """
    names = {os.fsencode(folder), os.fsencode((folder / guard.DATA).resolve())}
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if any(name in said for name in names):
                found.add(int(entry.name))
    return found


def assert_all_gone(folder: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while left := processes_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_the_demo_agrees_with_itself_and_leaves_nothing(folder: Path) -> None:
    with demo(folder) as process:
        said, _ = process.communicate(timeout=DEMO_SECONDS)

    assert process.returncode == 0, said[-3000:]
    answer = json.loads(said.splitlines()[-1])
    assert answer.keys() >= DOCUMENTED
    assert answer["totals_match"] is True
    assert answer["faults"] == []
    assert answer["events_sent"] >= 20_000
    assert answer["events_sent"] == sum(
        answer[f"events_{verdict}"] for verdict in ("accepted", "duplicate", "rejected")
    )
    assert {invoice["state"] for invoice in answer["invoices"]} == {"finalized"}
    assert len({invoice["tenant_id"] for invoice in answer["invoices"]}) == len(answer["invoices"])
    assert answer["deliveries_verified"] >= answer["deliveries"] > 0
    assert answer["deliveries_retried"] > 0
    assert_all_gone(folder)
    shown = page.read(folder / render.NAME)
    assert f"plots: {folder / render.NAME}" in said
    assert_needs_nothing_else(shown)
    with local.running(folder) as servers:
        engine = create_engine(servers.database_url)
        with engine.connect() as connection:
            counted = page.figures_of(connection)
        engine.dispose()
    found = {key: text for key, text in shown.figures.items() if not key.startswith("demo/")}
    # Days on which nothing happened are on the page too, and not among the rows.
    assert {key: found.get(key) for key in counted} == counted
    assert {found[key] for key in found.keys() - counted.keys()} <= {"0"}
    assert shown.figures["demo/events"] == f"{answer['events_sent']:,}"
    assert shown.figures["demo/deliveries"] == f"{answer['deliveries']:,}"
    assert shown.figures["demo/retried"] == f"{answer['deliveries_retried']:,}"


def assert_needs_nothing_else(shown: page.Shown) -> None:
    """No script, nothing from elsewhere, and words for each picture that tells something."""
    assert not shown.tags.keys() & {"script", "img", "link", "iframe"}
    assert "//" not in shown.source.replace("<!--", "")
    assert shown.tags["desc"] == shown.tags["figure"] == len(shown.shapes)
    assert all(shapes > 3 for shapes in shown.shapes.values()), shown.shapes


def test_an_interrupted_demo_ends_with_130_and_leaves_nothing(folder: Path) -> None:
    with demo(folder) as process:
        assert process.stdout is not None
        # The line of a day: servers, workers and subscriber run, and the month is being played.
        for line in process.stdout:
            if line.rstrip().endswith("events"):
                break
        began = processes_of(folder)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=DEMO_SECONDS)

    assert len(began) > 8
    assert process.returncode == INTERRUPTED, said[-3000:]
    assert "interrupted" in said
    assert_all_gone(folder)

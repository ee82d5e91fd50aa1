"""The supervisor: children are shown, restarted, stopped, and never outlive it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from worker import processes, settings, stopping

SECONDS = 20.0
"""How long anything here may take on a busy machine."""

PARENT = """
import sys, time
from pathlib import Path
from worker import processes

with processes.running(say=print, tell=print, cwd=Path.cwd()) as supervisor:
    script = "sleep 600 & echo $! > {folder}/grandchild; echo $$ > {folder}/child; wait"
    supervisor.start(processes.Program(name="child", command=["sh", "-c", script]))
    time.sleep(600)
"""


@dataclass(slots=True)
class Heard:
    """What the supervisor and its children said."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@pytest.fixture
def heard() -> Heard:
    """Collects what is said."""
    return Heard()


@pytest.fixture
def supervisor(heard: Heard) -> Iterator[processes.Supervisor]:
    """A supervisor whose children are gone after the test."""
    with processes.running(
        say=lambda name, line: heard.lines.append((name, line)),
        tell=heard.told.append,
        cwd=settings.ROOT,
    ) as running:
        yield running


def test_a_child_gets_its_environment_and_is_shown(
    supervisor: processes.Supervisor, heard: Heard
) -> None:
    supervisor.start(shell("speaker", "echo $WORD; echo second >&2", environment={"WORD": "first"}))

    eventually(lambda: len(heard.lines) == 2)
    assert heard.lines == [("speaker", "first"), ("speaker", "second")]


def test_a_child_reads_nothing_of_ours(supervisor: processes.Supervisor, heard: Heard) -> None:
    supervisor.start(shell("reader", "cat; echo end"))

    eventually(lambda: heard.lines == [("reader", "end")])


def test_waiting_ends_when_the_child_says_that_it_is_ready(
    supervisor: processes.Supervisor, tmp_path: Path
) -> None:
    sign = tmp_path / "ready"
    supervisor.start(shell("late", f"sleep 0.3; touch {sign}; sleep 600", is_ready=sign.exists))

    supervisor.wait_until_ready("late", seconds=SECONDS)

    assert sign.exists()
    assert "late" in supervisor.pids()


def test_a_child_that_ends_before_it_is_ready_is_a_failure(
    supervisor: processes.Supervisor, heard: Heard
) -> None:
    supervisor.start(shell("broken", "echo why; exit 3", is_ready=lambda: False))

    with pytest.raises(processes.ChildFailed, match="broken ended with exit status 3"):
        supervisor.wait_until_ready("broken", seconds=SECONDS)
    assert heard.lines == [("broken", "why")]


def test_a_child_that_is_never_ready_is_a_failure(supervisor: processes.Supervisor) -> None:
    supervisor.start(shell("slow", "sleep 600", is_ready=lambda: False))

    with pytest.raises(processes.ChildFailed, match="slow was not ready within 0 s"):
        supervisor.wait_until_ready("slow", seconds=0.2)


def test_a_dead_child_is_started_again_with_a_growing_pause(
    supervisor: processes.Supervisor, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(processes, "LONGEST_PAUSE_SECONDS", 0.02)
    starts: list[None] = []
    supervisor.start(shell("dying", "exit 7", before_start=lambda: starts.append(None)))

    eventually(lambda: tended(supervisor) and len(starts) >= 4)

    assert heard.told[0] == "dying ended with exit status 7; starting it again in 0 s"


def test_the_pause_is_bounded() -> None:
    pauses = [processes.pause_after(deaths) for deaths in (1, 2, 5, 50, 5000)]

    assert pauses[0] == processes.FIRST_PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == processes.LONGEST_PAUSE_SECONDS


def test_a_killed_child_is_replaced_and_its_own_children_end(
    supervisor: processes.Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 0.01)
    script = f"sleep 600 & echo $! >> {tmp_path}/pool; wait"
    supervisor.start(shell("worker", script))
    eventually(lambda: len(numbers(tmp_path / "pool")) == 1)
    first = supervisor.pid("worker")

    os.kill(first, signal.SIGKILL)
    eventually(lambda: tended(supervisor) and len(numbers(tmp_path / "pool")) == 2)

    orphan, _ = numbers(tmp_path / "pool")
    assert supervisor.pid("worker") != first
    eventually(lambda: not is_alive(orphan))


def test_stopping_asks_first(supervisor: processes.Supervisor, heard: Heard) -> None:
    supervisor.start(
        shell("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    )
    eventually(lambda: ("polite", "up") in heard.lines)

    supervisor.stop("polite")

    assert ("polite", "bye") in heard.lines
    assert heard.told == []
    assert supervisor.pids() == {}


def test_a_child_that_does_not_listen_is_killed(
    supervisor: processes.Supervisor, heard: Heard
) -> None:
    supervisor.start(
        shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done", patience=0.3)
    )
    eventually(lambda: ("deaf", "up") in heard.lines)
    pid = supervisor.pid("deaf")

    supervisor.stop_all()

    assert heard.told == ["deaf did not stop in time: killed"]
    assert not is_alive(pid)


def test_closing_twice_is_harmless(supervisor: processes.Supervisor) -> None:
    supervisor.start(shell("one", "sleep 600"))

    supervisor.close()
    supervisor.close()

    assert supervisor.pids() == {}


def test_ctrl_c_twice_is_one_wish_to_stop() -> None:
    before = signal.getsignal(signal.SIGINT)

    with stopping.until_told_to_stop() as over:
        assert not over.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert over.wait(SECONDS)

    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_manager_and_a_closed_terminal_stop_us_too(number: signal.Signals) -> None:
    with stopping.until_told_to_stop() as over:
        os.kill(os.getpid(), number)
        assert over.wait(SECONDS)


def test_nobody_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(folder=tmp_path)], cwd=settings.ROOT
    )
    eventually(lambda: numbers(tmp_path / "child"))
    (child,), (grandchild,) = numbers(tmp_path / "child"), numbers(tmp_path / "grandchild")
    assert is_alive(child)

    parent.kill()
    parent.wait()

    eventually(lambda: not is_alive(child) and not is_alive(grandchild))


def shell(
    name: str,
    script: str,
    *,
    environment: dict[str, str] | None = None,
    is_ready: Callable[[], bool] = lambda: True,
    before_start: Callable[[], None] = lambda: None,
    patience: float = 10.0,
) -> processes.Program:
    """A child that is a shell script."""
    return processes.Program(
        name=name,
        command=["sh", "-c", script],
        environment=environment or {},
        is_ready=is_ready,
        before_start=before_start,
        patience=patience,
    )


def eventually(holds: Callable[[], object]) -> None:
    """Return when something holds; fail when it does not within SECONDS."""
    pause = threading.Event()
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        pause.wait(0.02)


def tended(supervisor: processes.Supervisor) -> bool:
    """Tend the children once."""
    supervisor.tend()
    return True


def numbers(file: Path) -> list[int]:
    """The whole lines of a file, as numbers."""
    if not file.exists():
        return []
    return [int(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    answer = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(answer.stdout.strip()) and not answer.stdout.strip().startswith("Z")

"""`billing sizing`: what a load needs, without any server."""

import json
from pathlib import Path

import pytest

from tests.integration.command import Command


@pytest.fixture
def billing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command where there is no database."""
    return Command(monkeypatch, capsys, "postgresql://nobody@127.0.0.1:1/nothing")


def test_it_says_what_is_needed_and_what_is_full_first(billing: Command) -> None:
    ended = billing("sizing", "--events-per-second", "10000", "--tenants", "5000")

    assert ended.status == 0
    for said in ("processes for usage", "write-ahead log", "the roll-up keeps its ten seconds"):
        assert said in ended.out


def test_twice_the_events_are_twice_the_log_of_events_in_json(billing: Command) -> None:
    found = [
        json.loads(billing("sizing", "--events-per-second", rate, "--json").out)
        for rate in ("1000", "2000")
    ]

    assert found[1]["database"]["a_day"] > 1.9 * found[0]["database"]["a_day"]
    assert found[0]["measured"]["machine"]
    assert found[0]["full_at"]["the roll-up keeps its ten seconds"] > 0


def test_what_never_ends_has_no_number_in_json(billing: Command) -> None:
    ended = billing("sizing", "-r", "1000000", "--tenants", "10", "--json")

    assert json.loads(ended.out)["roll_up"]["every"] is None


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_file_of_something_else_is_refused(
    billing: Command, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "costs.json"
    file.write_text(content)

    ended = billing("sizing", "-r", "1000", "--costs", str(file))

    assert ended.status == 2
    assert "python -m benchmarks costs" in ended.err


def test_no_events_are_no_load(billing: Command) -> None:
    assert billing("sizing", "--events-per-second", "0").status == 2

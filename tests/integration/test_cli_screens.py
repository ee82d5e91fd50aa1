"""What commands put on a screen: sentences without log lines between, in lines that fit."""

import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tasks.aggregation import aggregate_usage
from tasks.usage import record_usage
from tests.integration.billing_world import fee, make_plan, subscribe
from tests.integration.command import Command

STYLED = re.compile(r"\x1b\[[0-9;]*m")

AT = "2026-01-20T10:00:00Z"


def test_a_terminal_reads_no_log_lines_beside_an_answer(
    billing: Command, terminal: Callable[[], None], tmp_path: Path
) -> None:
    _import(billing, tmp_path, {"amount": "-1"}, {"amount": "-2"})
    [first, _] = _refused(billing)

    terminal()
    quiet = billing("rejected", "discard", str(first), "--reason", "nobody wants it")

    assert quiet.err == ""
    assert quiet.out == f"message {first} discarded\n"


def test_a_terminal_reads_log_lines_when_they_are_asked_for(
    billing: Command,
    terminal: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _import(billing, tmp_path, {"amount": "-1"})
    [only] = _refused(billing)
    monkeypatch.setenv("BILLING_LOG_LEVEL", "INFO")

    terminal()
    told = billing("rejected", "discard", str(only), "--reason", "nobody wants it")

    assert "rejected.discarded" in told.err


def test_many_refused_again_are_told_one_by_one_and_then_in_all(
    billing: Command, tmp_path: Path
) -> None:
    _import(billing, tmp_path, {"amount": "-1"}, {"amount": "-2"})
    [first, second] = _refused(billing)

    replayed = billing("rejected", "replay", "--all").out.splitlines()

    assert replayed[0].startswith(f"message {first} was refused again and stays open: amount: ")
    assert replayed[1].startswith(f"message {second} was refused again")
    assert replayed[2:] == ["in all: 2 open"]


def test_a_command_on_a_subscription_needs_no_key_and_answers_as_json(billing: Command) -> None:
    make_plan(fee("31"))
    named = str(subscribe("acme", "2026-01-01")["subscription_id"])

    changed = billing("subscription", "change", named, "--quantity", "2", "--json")
    cancelled = billing("subscription", "cancel", named, "--json")
    resumed = billing("subscription", "resume", named, "--json")

    assert json.loads(changed.out)["subscription"]["quantity"] == "2"
    assert json.loads(cancelled.out)["ended_at"] is not None
    assert json.loads(resumed.out)["ended_at"] is None


def test_a_key_of_a_call_without_a_tenant_is_refused_without_naming_one(billing: Command) -> None:
    make_plan(fee("31"))
    named = str(subscribe("acme", "2026-01-01")["subscription_id"])
    billing("subscription", "change", named, "--quantity", "2", "--key", "k")

    refused = billing("subscription", "change", named, "--quantity", "3", "--key", "k")

    assert refused.status == 1
    assert "another billing.change_subscription; send the first" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["order", "show", "x"], "must be the id of an order"),
        (["schema", "show", "billing.pnig"], "did you mean billing.ping?"),
        (["usage", "import", "/no/such.csv"], "billing: /no/such.csv: No such file or directory"),
        (
            ["endpoint", "create", "https://a.example", "--operator", "--topic", "billing.invoice"],
            "did you mean 'billing.invoice.",
        ),
    ],
)
def test_what_was_meant_is_guessed_in_a_line(billing: Command, words: list[str], said: str) -> None:
    refused = billing(*words)

    assert refused.status != 0
    assert refused.out == ""
    assert said in refused.err
    assert len(refused.err) < 1_500


def test_an_option_without_a_value_is_shown_without_one(billing: Command) -> None:
    said = billing("wallet", "show", "--help").out

    [line] = [line for line in said.splitlines() if "--json" in line]
    assert "<bool>" not in line


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_months_usage_fits_a_terminal_of_any_width(
    billing: Command, terminal: Callable[[int], None], width: int
) -> None:
    names = [f"metric_with_a_long_name_{number}" for number in range(6)]
    for name in names:
        used: Any = {"tenant_id": "acme", "metric": name, "idempotency_key": "k", "at": AT}
        record_usage(**used, amount=Decimal(1_000_000))
    aggregate_usage()

    terminal(width)
    shown = billing("usage", "show", "acme", "--month", "2026-01").out

    lines = STYLED.sub("", shown).splitlines()
    assert max(map(len, lines[:-1])) <= width, "the last one names what is left out, and wraps"
    assert all(name in shown for name in names)


def test_nothing_of_one_metric_is_said_of_that_metric(billing: Command, tmp_path: Path) -> None:
    _import(billing, tmp_path, {"amount": "1"})

    shown = billing("usage", "show", "acme", "--month", "2026-01", "--metric", "seats")

    [said, _] = shown.out.splitlines()
    assert said == "acme, January 2026, UTC: nothing was used of seats"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make this process's streams a terminal's, of a width."""

    def become(width: int = 80) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)

    return become


def _import(billing: Command, folder: Path, *events: dict[str, str]) -> None:
    file = folder / "usage.jsonl"
    whole = (
        {"tenant_id": "acme", "metric": "calls", "at": AT, "idempotency_key": f"k{number}", **event}
        for number, event in enumerate(events)
    )
    file.write_text("".join(f"{json.dumps(event)}\n" for event in whole))
    billing("usage", "import", str(file))


def _refused(billing: Command) -> list[int]:
    return sorted(one["id"] for one in json.loads(billing("rejected", "list", "--json").out))

"""`billing quote`, and the task: what usage would cost."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.rules import money
from models.rules.refusal import Refusal
from tasks.quotes import quote
from tests.integration.command import Command
from tests.unit.rules import vectors

IN_WORDS = {"V168": "input.units", "V233": "params.blocks"}
"""Published rows that say in words what nobody can read: they are run in test_quote_vectors.py."""

CALLS = {"model": "per_unit", "params": {"unit_price": "0.01"}, "currency": "USD"}


@pytest.fixture
def billing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command where there is no database."""
    return Command(monkeypatch, capsys, "postgresql://nobody@127.0.0.1:1/nothing")


def as_lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def answers(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_exactly_the_published_prices_come_out(billing: Command) -> None:
    rows = vectors.rows("pricing", *vectors.models_of("pricing"))

    ended = billing("quote", "--json", stdin=as_lines(*rows))

    quoted = answers(ended.out)
    assert [one["id"] for one in quoted] == [row["id"] for row in rows]
    assert [one["line"] for one in quoted] == list(range(1, len(rows) + 1))
    for row, one in zip(rows, quoted, strict=True):
        if row["id"] in IN_WORDS:
            assert one["error"]["field"] == IN_WORDS[row["id"]]
            continue
        published = money.to_minor(Decimal(row["expected_amount"]), row["currency"])
        assert (row["id"], one["amount_minor"]) == (row["id"], published)
        assert sum(line["amount_minor"] for line in one["lines"]) == published
    assert ended.status == int(any(row["id"] in IN_WORDS for row in rows))


def test_a_file_becomes_a_table_with_the_tiers_of_each_amount(
    billing: Command, tmp_path: Path
) -> None:
    tiers = [
        {"up_to": "1000", "unit_price": "0.10"},
        {"up_to": "10000", "unit_price": "0.05", "flat_fee": "7"},
        {"unit_price": "0.01"},
    ]
    row = {"id": "big", "model": "graduated", "params": {"tiers": tiers, "max_spend": "500"}}
    file = tmp_path / "quotes.jsonl"
    file.write_bytes(as_lines({**row, "currency": "USD", "input": {"units": "15000"}}))

    ended = billing("quote", str(file))

    assert [" ".join(line.split()) for line in ended.out.splitlines()] == [
        "line 1, big: graduated 500.00 USD",
        "up to 1,000 1,000 x 0.10 100.00 USD",
        "1,000 to 10,000 9,000 x 0.05 450.00 USD",
        "1,000 to 10,000, flat fee 7.00 7.00 USD",
        "above 10,000 5,000 x 0.01 50.00 USD",
        "above the maximum -107.00 USD",
    ]
    assert (ended.status, ended.err) == (0, "")


def test_bad_lines_are_said_with_their_number_and_the_others_go_on(billing: Command) -> None:
    lines = [
        b"nonsense\n",
        b"\n",
        as_lines({**CALLS, "input": {"units": "250"}}),
        b"[1]\n",
        b'{"model": "per_unit", "params": {"unit_price": NaN}, "currency": "USD", "input": {}}\n',
        b"\xff\n",
        as_lines({**CALLS, "input": {"unit": "1"}}),
        as_lines({**CALLS, "currency": "EURO", "input": {"units": "1"}}),
        as_lines({"model": "per_unit"}),
        as_lines({**CALLS, "model": "per_seat", "input": {"units": "1"}}),
        as_lines({**CALLS, "input": {"units": "1E+2000"}}),
        b"[" * 100_000 + b"\n",
        as_lines({**CALLS, "params": {"unit_price": 0.1}, "input": {"units": 30.5}}).rstrip(),
    ]

    ended = billing("quote", stdin=b"".join(lines))

    assert ended.status == 1
    assert [" ".join(line.split()) for line in ended.out.splitlines()] == [
        "line 3: per_unit 2.50 USD",
        "250 x 0.01 2.50 USD",
        "line 13: per_unit 3.05 USD",
        "30.5 x 0.10 3.05 USD",
    ]
    said = ended.err.splitlines()
    assert [line.split(":")[0] for line in said] == [
        f"line {number}" for number in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    ]
    for place, words in (
        (0, "not JSON"),
        (1, "must be a JSON object with model, params, currency, input"),
        (2, "NaN is no number of JSON"),
        (4, "input.units must be given"),
        (5, "unknown currency 'EURO'"),
        (6, "params"),
        (7, "model 'per_seat' must be one of fixed, per_unit"),
        (8, "out of range"),
    ):
        assert words in said[place]


def test_an_error_is_a_json_line_where_json_is_asked_for(billing: Command) -> None:
    bad = {**CALLS, "id": 7, "params": {"unit_price": "-1"}, "input": {"units": "1"}}

    ended = billing("quote", "--json", stdin=as_lines(bad))

    assert (ended.status, ended.err) == (1, "")
    assert answers(ended.out) == [
        {
            "line": 1,
            "id": 7,
            "error": {
                "code": "price.invalid",
                "field": "params.unit_price",
                "reason": "params.unit_price -1 must be zero or more, below 10^18, with at most "
                "12 decimals",
            },
        }
    ]


def test_a_file_that_is_not_there_is_refused(billing: Command, tmp_path: Path) -> None:
    ended = billing("quote", str(tmp_path / "none"))

    assert ended.status == 2
    assert "No such file" in ended.err


@pytest.mark.slow
def test_a_pipe_is_rated_by_a_process_of_its_own() -> None:
    asked = as_lines({**CALLS, "input": {"units": "250"}}) * 3

    ended = subprocess.run(
        [sys.executable, "-m", "worker", "quote", "--json"],
        input=asked,
        capture_output=True,
        timeout=120,
        check=True,
    )

    assert [one["amount"] for one in answers(ended.stdout.decode())] == ["2.50"] * 3


def test_the_task_answers_what_the_command_prints(billing: Command) -> None:
    events = [
        {"amount": "3", "at": "2026-01-01T10:30:00", "metadata": {"model": "atlas"}},
        {"amount": "5", "at": "2026-01-01T10:59:59", "metadata": {"model": "atlas"}},
        {"amount": "4", "at": "2026-01-01T11:00:00"},
    ]
    filters = [{"match": {"model": "atlas"}, "unit_price": "2"}]
    params = {"unit_price": "1", "max_per": "hour", "filters": filters}
    row: dict[str, Any] = {**CALLS, "params": params, "input": {"events": events}}

    answer = quote(**row)

    assert answer["amount"] == "14.00"
    assert [step["of"] for step in answer["lines"][0]["steps"]] == ["model = atlas", "the rest"]
    (printed,) = answers(billing("quote", "--json", stdin=as_lines(row)).out)
    assert printed == {"line": 1, **answer}


@pytest.mark.parametrize(
    ("model", "params", "used", "field"),
    [
        ("per_unit", {"unit_price": "1", "exponent": 3}, {"units": "1"}, "params.exponent"),
        (
            "per_unit",
            {"unit_price": "1", "unit_rounding": "a bit"},
            {"units": "1"},
            "params",
        ),
        ("per_unit", {"unit_price": "1", "max_per": "hour"}, {"units": "1"}, "input.units"),
        ("per_unit", {"unit_price": "1"}, {"from": "2026-01-01", "to": "2025-01-01"}, "input.to"),
        ("per_unit", {"unit_price": "1"}, {"from": "noon", "to": "2025-01-01"}, "input.from"),
        ("per_unit", {"unit_price": "1"}, {"units": "1", "more": "1"}, "input.more"),
        ("per_unit", {"unit_price": "1"}, {"events": [{"at": "2026-01-01"}]}, "input.events[0].am"),
        (
            "blocks_top_tier",
            {"blocks": [{"block_size": "1", "price": "1"}], "tier_bounds_cumulative": ["5"]},
            {"units": "1"},
            "params.tier_bounds_cumulative",
        ),
        ("prorated_per_unit", {"unit_price": "1"}, {"events": []}, "params.period"),
        (
            "prorated_per_unit",
            {"unit_price": "1", "period": ["2026-01-01", "2027-01-31"]},
            {"events": []},
            "params.period",
        ),
        (
            "prorated_per_unit",
            {"unit_price": "1", "period": ["2026-01-01", "2026-01-31"]},
            {"events": [["2026-02-01", "1"]]},
            "input.events[0].day",
        ),
    ],
)
def test_what_can_not_be_quoted_is_refused_by_field(
    model: str, params: dict[str, Any], used: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refusal) as refused:
        quote(model=model, params=params, currency="USD", input=used)

    assert (refused.value.field or "").startswith(field)

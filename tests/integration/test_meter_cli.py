"""`billing meter`, as an operator sees it."""

import json
import re
from typing import Any

import pytest

from tasks.aggregation import aggregate_usage
from tasks.meters import set_meter
from tasks.usage import record_usage
from tests.integration.billing_world import instant, make_plan, query, usage_price
from tests.integration.command import Command

AS_OF = instant("2026-05-04T12:00:00")


def use(*metrics: str) -> None:
    for metric in metrics:
        event: Any = {"tenant_id": "acme", "metric": metric, "idempotency_key": "a", "amount": 1}
        record_usage(**event, at="2026-05-02", as_of=AS_OF)
    aggregate_usage(as_of=AS_OF)


def test_a_meter_is_what_the_options_say(billing: Command) -> None:
    ended = billing(
        *("meter", "set", "users", "--aggregation", "unique_count", "--value-field", "user_id"),
        *("--unit", "user", "--filter", "region=eu", "--filter", "kind=a", "--filter", "region=us"),
        *("--round", "0:up", "--allow-corrections", "--json"),
    )

    assert json.loads(ended.out) == {
        "metric": "users",
        "aggregation": "unique_count",
        "unit": "user",
        "value_field": "user_id",
        "filters": {"kind": ["a"], "region": ["eu", "us"]},
        "rounding": {"decimals": 0, "mode": "up"},
        "allow_corrections": True,
        "active": True,
        "version": 1,
    }
    assert query("SELECT metric, aggregation, definition FROM meters") == [
        ("users", "unique_count", 1)
    ]


def test_what_a_change_replaces_is_said(billing: Command) -> None:
    set_meter(metric="api", aggregation="max", unit="call")

    said = billing("meter", "set", "api", "--unit", "call", "--inactive").out

    lines = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    assert ["metric", "api", "version 2"] in lines
    assert ["aggregation", "sum", "was max"] in lines
    assert ["active", "no", "was yes"] in lines
    assert ["unit", "call"] in lines


def test_the_list_names_what_is_used_and_not_charged_for(billing: Command) -> None:
    use("api", "disk", "net")
    set_meter(metric="disk", aggregation="max")
    set_meter(metric="away", active=False)
    make_plan(usage_price("api", "0.01"))

    shown = billing("meter", "list").out
    answer = json.loads(billing("meter", "list", "--json").out)
    everything = json.loads(billing("meter", "list", "--all", "--json").out)

    rows = [re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line) for line in shown.splitlines()]
    (disk,) = [row for row in rows if row[:1] == ["disk"]]
    assert disk[1:3] + disk[-3:] == ["max", "amount", "yes", "no", "version 1"]
    assert "used, and no price charges for it: disk, net\n" in shown
    assert [one["metric"] for one in answer["meters"]] == ["api", "disk", "net"]
    assert answer["unpriced"] == ["disk", "net"]
    assert [one["metric"] for one in everything["meters"]] == ["api", "away", "disk", "net"]


def test_an_empty_list_says_so(billing: Command) -> None:
    assert billing("meter", "list").out == "no metric has a meter or usage\n"


def test_more_than_a_page_is_listed(billing: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.cli.meter.LARGEST_PAGE", 2)
    for number in range(5):
        set_meter(metric=f"m{number}")

    assert len(json.loads(billing("meter", "list", "--json").out)["meters"]) == 5
    assert "m4" in billing("meter", "show", "m4").out


def test_one_is_shown_with_or_without_a_meter(billing: Command) -> None:
    use("api")
    set_meter(metric="users", aggregation="count", filters={"region": ["eu", "us"]}, active=False)

    plain = billing("meter", "show", "api").out
    metered = billing("meter", "show", "users").out
    answer = json.loads(billing("meter", "show", "users", "--json").out)

    assert "no meter" in plain
    assert "every event" in plain
    assert "region = eu | us" in metered
    assert "number of events" in metered
    assert answer["active"] is False


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("show", "nothing"), 1, "metric 'nothing' has neither a meter nor usage"),
        (("set", ""), 1, "metric '': must have at least 1 character"),
        (("set", "m" * 65), 1, "metric 'mmm"),
        (("set", "api", "--unit", " x"), 1, "unit ' x': must not begin or end with a space"),
        (("set", "api", "--round", "13:up"), 1, "rounding.decimals 13: must be less than"),
        (
            ("set", "api", "--round", "up"),
            2,
            "'up' must be a number of decimals and one of half_up",
        ),
        (("set", "api", "--filter", "region"), 2, "'region' must be a key of the metadata and"),
        (("set", "api", "--filter", "region="), 1, "filters.region.0 '': must have at"),
        (("set", "api", "--aggregation", "avg"), 2, "'avg' is not one of 'sum'"),
        (
            ("set", "api", "--aggregation", "count", "--value-field", "x"),
            1,
            "value_field 'x' would have no effect",
        ),
    ],
)
def test_what_makes_no_meter_is_refused_by_field_and_value(
    billing: Command, words: tuple[str, ...], status: int, complaint: str
) -> None:
    ended = billing("meter", *words)

    assert ended.status == status
    assert complaint in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err
    assert query("SELECT 1 FROM meters") == []

"""`billing plan` and `billing price`, as an operator sees them."""

import json
from typing import Any

import pytest

from tasks import plan_list
from tasks.plan_list import list_plans, list_prices
from tests.integration.billing_world import fee, instant, make_plan, usage_price
from tests.integration.command import Command

LATER = instant("2026-02-10T12:00:00")


def of_model(model: str, metric: str, **params: Any) -> dict[str, Any]:
    return {**usage_price(metric, "1"), "model": model, "unit_amount": None, "params": params}


def cells(out: str) -> list[list[str]]:
    """What stands in the rows of a table, without its frame."""
    return [
        [cell.strip() for cell in line.replace("┃", "│")[1:-1].split("│")]
        for line in out.splitlines()
        if line[:1] in {"│", "┃"}
    ]


TIERED = of_model(
    "graduated",
    "tokens",
    tiers=[
        {"up_to": "1000000", "flat_fee": "5"},
        {"up_to": "9000000", "unit_price": "0.00001"},
        {"unit_price": "0.000005", "flat_fee": "1"},
    ],
    filters=[{"match": {"model": ["atlas", "hermes"]}, "tiers": [{"unit_price": "1"}]}],
    min_spend="10",
)


def test_a_plan_is_shown_with_its_tiers(billing: Command) -> None:
    make_plan(fee("10"), TIERED, usage_price("calls", "3", params={"per": "1000000"}))

    ended = billing("plan", "show", "pro")

    assert ended.out.splitlines()[0] == "pro, Pro: every month, by calendar, version 1"
    assert cells(ended.out)[1:] == [
        ["base", "seats", "fixed", "10 for each seat", "USD"],
        ["calls", "calls", "per_unit", "3 for each 1,000,000", "USD"],
        ["tokens", "tokens", "graduated", "up to 1,000,000: 0 each and 5 flat", "USD"],
        ["", "", "", "up to 9,000,000: 0.00001 each", ""],
        ["", "", "", "above 9,000,000: 0.000005 each and 1 flat", ""],
        ["", "", "", "where model = atlas | hermes:", ""],
        ["", "", "", "any number: 1 each", ""],
        ["", "", "", "at least 10 a period", ""],
    ]


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        ("volume", {"tiers": [{"unit_price": "2"}]}, ["all at the tier of the total:"]),
        (
            "package",
            {"package_size": "10", "package_price": "5", "rounding": "down", "free_units": "20"},
            ["the first 20 free", "5 for each full package of 10"],
        ),
        (
            "percentage",
            {
                "rate_percent": "1.5",
                "fixed_per_event": "0.3",
                "free_events": 3,
                "free_amount": "250",
                "min_per_event": "1",
                "max_per_event": "12",
            },
            [
                "1.5 % and 0.3 an event",
                "the first 3 events free",
                "the first 250 free",
                "at least 1 an event",
                "at most 12 an event",
            ],
        ),
        (
            "graduated_percentage",
            {"tiers": [{"up_to": "10", "rate_percent": "2"}, {}], "prorate": False},
            ["up to 10: 2 %", "above 10: 0 %", "whole also for a part of a period"],
        ),
        (
            "block",
            {
                "charge": "top_tier",
                "blocks": [{"block_size": "100", "max_blocks": "2", "price": "1"}],
            },
            ["all at the tier of the total:", "blocks of 100: 1 each"],
        ),
        (
            "capacity",
            {
                "group_by": "what",
                "tiers": [{"limits": {"seats": "5"}, "price": "9"}, {"price": "20"}],
            },
            ["seats up to 5: 9", "anything: 20", "each what by itself"],
        ),
        (
            "dynamic",
            {"amount_field": "cost", "multiplier": "1.2", "max_spend": "500"},
            ["what metadata.cost says, times 1.2", "at most 500 a period"],
        ),
        (
            "graduated",
            {
                "tiers": [{"unit_price": "2"}],
                "max_per": "hour",
                "quantity_rounding": {"mode": "half_up", "decimals": 0},
            },
            ["quantity rounded half up to 0 decimals", "the greatest of each hour, by itself"],
        ),
        (
            "graduated",
            {"tiers": [{"unit_price": "2"}], "recurring": True},
            ["units live on, charged by the day"],
        ),
    ],
)
def test_every_model_is_said_in_words(
    billing: Command, model: str, params: dict[str, Any], said: list[str]
) -> None:
    make_plan(of_model(model, "tokens", **params))

    out = billing("price", "list").out

    terms = [row[3] for row in cells(out)[1:]]
    assert [line for line in terms if line in said] == said


def test_plans_are_listed(billing: Command) -> None:
    assert billing("plan", "list").out == "no plan; billing.set_plan makes one\n"
    make_plan(fee("10"), fee("900", currency="JPY"), usage_price("calls", "1"))
    make_plan(plan_key="basic", interval="year", anchor="anniversary")

    assert cells(billing("plan", "list").out)[1:] == [
        ["basic", "Basic", "every year, by anniversary", "", "", "1"],
        ["pro", "Pro", "every month, by calendar", "base, calls", "JPY, USD", "1"],
    ]
    shown = json.loads(billing("plan", "show", "pro", "--json").out)
    assert json.loads(billing("plan", "list", "--json").out)[1] == shown


def test_versions_of_prices_are_listed_with_when_they_are_in_force(billing: Command) -> None:
    make_plan(usage_price("calls", "1"))
    make_plan(usage_price("calls", "2"), as_of=LATER)
    make_plan(fee("7"), plan_key="other")

    now = cells(billing("price", "list").out)[1:]
    of_pro = cells(billing("price", "list", "--plan", "pro", "--all").out)[1:]

    assert now == [
        ["other", "base", "seats", "7 for each seat", "USD", "", ""],
        ["pro", "calls", "calls", "2 for each", "USD", "2026-02-10 12:00Z", ""],
    ]
    assert of_pro == [
        ["pro", "calls", "calls", "1 for each", "USD", "", "2026-02-10 12:00Z"],
        ["pro", "calls", "calls", "2 for each", "USD", "2026-02-10 12:00Z", ""],
    ]
    as_json = json.loads(billing("price", "list", "--all", "--json").out)
    assert [one["unit_amount"] for one in as_json] == ["7", "1", "2"]


@pytest.mark.parametrize("words", [("plan", "show", "none"), ("price", "list", "--plan", "none")])
def test_an_unknown_plan_is_refused_by_name(billing: Command, words: tuple[str, ...]) -> None:
    ended = billing(*words)

    assert ended.status == 1
    assert "plan_key 'none' is unknown" in ended.err


def test_lists_come_page_by_page(billing: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        make_plan(fee("1"), plan_key=f"plan-{number}")

    first = list_plans(limit=3)
    rest = list_plans(limit=3, after=first["next_after"] or "")

    keys = [one["plan_key"] for page in (first, rest) for one in page["plans"]]
    assert keys == [f"plan-{number}" for number in range(5)]
    assert rest["next_after"] is None
    prices = list_prices(limit=2)
    assert len(list_prices(limit=5, after=prices["next_after"])["prices"]) == 3
    monkeypatch.setattr("worker.cli.plan.LARGEST_PAGE", 2)
    assert plan_list.LARGEST_PAGE == 1_000
    assert len(json.loads(billing("plan", "list", "--json").out)) == 5
    assert len(json.loads(billing("price", "list", "--json").out)) == 5

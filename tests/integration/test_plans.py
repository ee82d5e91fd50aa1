"""Plans: declared, compared, changed from an instant on."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules.refusal import Refusal
from tasks import contract
from tasks.plan_list import list_prices
from tasks.plans import set_price
from tests.integration.billing_world import (
    START,
    fee,
    instant,
    make_plan,
    query,
    subscribe,
    usage_price,
)

VERSIONS = """
    SELECT price_key, unit_amount::text, effective_at, ended_at FROM prices
    ORDER BY price_key, effective_at NULLS FIRST
"""
LATER = instant("2026-02-10T12:00:00")


def test_a_plan_answers_with_its_prices(db: Engine) -> None:
    answer = make_plan(fee("10.50"), usage_price("calls", "0.002", description="API calls"))

    assert (answer["plan_key"], answer["name"], answer["version"]) == ("pro", "Pro", 1)
    assert (answer["interval"], answer["anchor"]) == ("month", "calendar")
    assert answer["prices"][1] == {
        "price_key": "calls",
        "kind": "usage",
        "metric": "calls",
        "model": "per_unit",
        "unit_amount": "0.002",
        "params": {},
        "currency": "USD",
        "timing": "arrears",
        "description": "API calls",
    }


def test_the_same_plan_again_changes_nothing(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "0.5"))
    before = query("SELECT * FROM prices"), query("SELECT * FROM plans")

    make_plan(usage_price("calls", "0.50"), fee("10.00"), as_of=LATER)

    assert (query("SELECT * FROM prices"), query("SELECT * FROM plans")) == before


def test_a_changed_price_ends_and_a_new_version_starts(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))

    make_plan(fee("12"), usage_price("calls", "1"), as_of=LATER)

    assert query(VERSIONS) == [
        ("base", "10", None, LATER),
        ("base", "12", LATER, None),
        ("calls", "1", None, None),
    ]


def test_a_price_left_out_ends_and_can_come_back(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    make_plan(fee("10"), as_of=LATER)
    # What is set while it is not there does not move its end.
    make_plan(fee("12"), as_of=instant("2026-03-01"))
    back = instant("2026-03-10")

    answer = make_plan(fee("12"), usage_price("calls", "2"), as_of=back)

    assert [price["price_key"] for price in answer["prices"]] == ["base", "calls"]
    assert query(VERSIONS)[2:] == [("calls", "1", None, LATER), ("calls", "2", back, None)]


@pytest.mark.parametrize("as_of", [START, LATER], ids=["before", "at the same instant"])
def test_a_change_that_is_not_after_the_last_one_is_refused(db: Engine, as_of: dt.datetime) -> None:
    make_plan(fee("10"))
    make_plan(fee("12"), as_of=LATER)

    with pytest.raises(Refusal) as refused:
        make_plan(fee("14"), as_of=as_of)

    assert refused.value.code == "price.set_later"
    assert len(query(VERSIONS)) == 2


def test_a_price_that_ended_can_come_back_from_its_end_on_and_not_before(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    make_plan(fee("10"), as_of=LATER)
    with pytest.raises(Refusal) as refused:
        make_plan(fee("10"), usage_price("calls", "2"), as_of=LATER - dt.timedelta(seconds=1))
    assert refused.value.code == "price.set_later"

    make_plan(fee("10"), usage_price("calls", "2"), as_of=LATER)

    assert query(VERSIONS)[1:] == [("calls", "1", None, LATER), ("calls", "2", LATER, None)]


def test_at_the_instant_of_a_change_the_new_price_is_in_force_alone(db: Engine) -> None:
    make_plan(fee("10"))
    make_plan(fee("12"), as_of=LATER)

    def in_force(as_of: dt.datetime) -> list[Any]:
        found = list_prices(plan_key="pro", as_of=as_of)["prices"]
        return [one["unit_amount"] for one in found]

    assert in_force(LATER - dt.timedelta(seconds=1)) == ["10"]
    assert in_force(LATER) == ["12"]


def test_the_rhythm_of_a_plan_in_use_stays(db: Engine) -> None:
    make_plan(fee("10"))
    make_plan(fee("10"), interval="year")
    make_plan(fee("10"), interval="month")
    subscribe("acme", "2026-01-01")

    with pytest.raises(Refusal) as refused:
        make_plan(fee("10"), interval="year")

    assert refused.value.code == "plan.in_use"


@pytest.mark.parametrize(
    ("price", "code"),
    [
        (usage_price("calls", "1", timing="advance"), "price.advance_not_supported"),
        (fee("1", metric="calls"), "price.invalid"),
        (fee("1", kind="usage", model="per_unit"), "price.invalid"),
        (usage_price("calls", "1", model="fixed"), "price.invalid"),
    ],
)
def test_terms_that_can_not_be_charged_are_refused_by_name(
    db: Engine, price: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refusal) as refused:
        make_plan(price)

    assert refused.value.code == code
    assert query("SELECT count(*) FROM plans") == [(0,)]


def test_a_price_listed_twice_is_refused(db: Engine) -> None:
    with pytest.raises(Refusal, match="listed 2 times"):
        make_plan(fee("1"), fee("2"))


@pytest.mark.parametrize("unit_amount", ["-1", "0.0000000000001", "NaN", "ten"])
def test_a_bad_amount_is_refused(db: Engine, unit_amount: str) -> None:
    with pytest.raises(contract.InvalidMessage, match="unit_amount"):
        make_plan(fee(unit_amount))


GRADUATED = {
    **usage_price("calls", "1"),
    "model": "graduated",
    "unit_amount": None,
    "params": {
        "tiers": [{"up_to": "1000.0", "flat_fee": "5"}, {"unit_price": "0.010"}],
        "filters": [{"match": {"model": "atlas"}, "tiers": [{"unit_price": "1"}]}],
        "min_spend": "10",
    },
}


def test_a_price_has_any_model_and_is_answered_without_what_goes_without_saying(
    db: Engine,
) -> None:
    (price,) = make_plan(GRADUATED)["prices"]

    assert (price["model"], price["unit_amount"]) == ("graduated", None)
    assert price["params"] == {
        "tiers": [{"up_to": "1000", "flat_fee": "5"}, {"unit_price": "0.01"}],
        "filters": [{"match": {"model": ["atlas"]}, "tiers": [{"unit_price": "1"}]}],
        "min_spend": "10",
    }
    before = query("SELECT * FROM prices")
    make_plan({**GRADUATED, "params": price["params"]}, as_of=LATER)
    assert query("SELECT * FROM prices") == before


def test_one_price_is_changed_or_added_and_the_others_stay(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    fees = query("SELECT * FROM prices WHERE price_key = 'base'")

    set_price(plan_key="pro", price=GRADUATED, as_of=LATER)
    answer = set_price(plan_key="pro", price=usage_price("bytes", "2"), as_of=LATER)

    assert [price["price_key"] for price in answer["prices"]] == ["base", "bytes", "calls"]
    assert query(VERSIONS) == [
        ("base", "10", None, None),
        ("bytes", "2", LATER, None),
        ("calls", "1", None, LATER),
        ("calls", None, LATER, None),
    ]
    assert query("SELECT * FROM prices WHERE price_key = 'base'") == fees
    before = query("SELECT * FROM prices")
    set_price(plan_key="pro", price=GRADUATED, as_of=instant("2026-02-11"))
    assert query("SELECT * FROM prices") == before


def test_a_price_of_an_unknown_plan_is_refused(db: Engine) -> None:
    with pytest.raises(Refusal) as refused:
        set_price(plan_key="none", price=GRADUATED)

    assert refused.value.code == "plan.unknown"


TIERS = {"tiers": [{"unit_price": "1"}]}


@pytest.mark.parametrize(
    ("price", "field"),
    [
        ({**GRADUATED, "unit_amount": "1"}, "prices[0].unit_amount"),
        ({**GRADUATED, "params": {}}, "prices[0].params.tiers"),
        ({**GRADUATED, "params": {"tiers": [{"up_to": "5"}]}}, "prices[0].params.tiers[0].up_to"),
        (usage_price("calls", "1", params={"unit_price": "1"}), "prices[0].params.unit_price"),
        (usage_price("calls", None, params={"unit_amount": "1"}), "prices[0].params.unit_amount"),
        ({**usage_price("calls", "1"), "unit_amount": None}, "prices[0].unit_amount"),
        (usage_price("calls", "1", params={"min_spent": "1"}), "prices[0].params.min_spent"),
        ({**fee("1"), "model": "percentage", "params": {"rate_percent": "1"}}, "prices[0].unit_am"),
        (
            {**fee("1"), "unit_amount": None, "model": "graduated_percentage", "params": TIERS},
            "prices[0].params.tiers[0].unit_price",
        ),
        (
            {**fee("1"), "unit_amount": None, "model": "percentage", "params": {"rate_percent": 1}},
            "prices",
        ),
        (fee("1", model="per_unit", params={"group_by": "team"}), "prices"),
        (fee("1", model="per_unit", params={"min_spend": "5"}), "prices"),
    ],
)
def test_params_that_can_not_be_charged_are_refused_by_field(
    db: Engine, price: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refusal) as refused:
        make_plan(price)

    assert refused.value.code == "price.invalid"
    assert (refused.value.field or "").startswith(field)
    assert query("SELECT count(*) FROM plans") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE prices SET model = 'guess'",
        "UPDATE prices SET unit_amount = NULL",
        "UPDATE prices SET model = 'graduated'",
        "UPDATE prices SET model = 'fixed'",
        "UPDATE prices SET kind = 'fixed', metric = NULL, model = 'dynamic', unit_amount = NULL",
        "UPDATE prices SET params = '[]'",
    ],
)
def test_the_database_refuses_terms_that_contradict_one_another(db: Engine, statement: str) -> None:
    make_plan(usage_price("calls", "1"))

    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(text(statement))

"""A change that is to come is taken back or replaced: as if it had never been said."""

from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.catalog import set_product
from tasks.invoice_runs import generate_invoices
from tasks.plan_changes import undo_change
from tasks.subscribing import SubscriptionReplaced
from tests.integration.billing_world import fee, instant, make_plan, query, said, subscribe
from tests.integration.command import Command
from tests.integration.plan_credits import give, plan
from tests.integration.test_fees_ahead import ahead, fees, run
from tests.integration.test_plan_changes import cancel, change

IN_FORCE = """
    SELECT plan_key, ended_at FROM subscriptions
    WHERE ended_at IS NULL OR effective_at < ended_at ORDER BY plan_key
"""


def undo(found: Any, at: str) -> Any:
    return undo_change(subscription_id=found["subscription_id"], as_of=instant(at))


@pytest.fixture
def acme(db: Engine) -> Any:
    make_plan(fee("31"))
    make_plan(fee("310"), plan_key="max")
    make_plan(ahead("62"), plan_key="ahead")
    return subscribe("acme", "2026-01-01")


def test_another_plan_to_come_is_taken_back(acme: Any) -> None:
    follower = change(acme, "2026-01-11", plan_key="max", when="period_end")["subscription"]

    answer = undo(acme, "2026-01-12")
    assert (answer["ended_at"], undo(acme, "2026-01-12")["ended_at"]) == (None, None)

    assert query(IN_FORCE) == [("pro", None)]
    told = [
        one["data"]["ended_at"] == one["data"]["effective_at"]
        for one in said("billing.subscription_set")
        if one["data"]["subscription_id"] == str(follower["subscription_id"])
    ]
    assert told == [False, True]
    generate_invoices(as_of=instant("2026-03-01"))
    assert fees() == [("2026-01-01", "2026-02-01", 3100), ("2026-02-01", "2026-03-01", 3100)]


def test_it_can_be_said_again_after_it_was_taken_back(acme: Any) -> None:
    for at in ("2026-01-11", "2026-01-13"):
        change(acme, at, plan_key="max", when="period_end")
        undo(acme, f"{at}T12:00:00")
    change(acme, "2026-01-15", plan_key="max", when="period_end")
    generate_invoices(as_of=instant("2026-03-01"))
    assert [amount for *_, amount in fees()] == [3100, 31000]


def test_another_change_takes_its_place(acme: Any) -> None:
    change(acme, "2026-01-11", plan_key="max", when="period_end")
    change(acme, "2026-01-12", plan_key="ahead", when="period_end")
    run("2026-02-01")
    assert fees() == [("2026-01-01", "2026-02-01", 3100), ("2026-02-01", "2026-03-01", 6200)]
    assert [row[0] for row in query(IN_FORCE)] == ["ahead", "pro"]


def test_a_change_now_takes_the_place_of_one_to_come(acme: Any) -> None:
    change(acme, "2026-01-11", plan_key="max", when="period_end")
    change(acme, "2026-01-21", plan_key="ahead")
    run("2026-02-01")
    assert sorted(fees()) == [
        ("2026-01-01", "2026-01-21", 2000),
        ("2026-01-21", "2026-02-01", 2200),
        ("2026-02-01", "2026-03-01", 6200),
    ]


def test_seats_to_come_are_taken_back(acme: Any) -> None:
    change(acme, "2026-01-05", quantity="3")
    change(acme, "2026-01-11", quantity="9", when="period_end")
    answer = undo(acme, "2026-01-12")
    assert [one["quantity"] for one in answer["seats"]] == ["1", "3"]
    generate_invoices(as_of=instant("2026-03-01"))
    assert [amount for *_, amount in fees()] == [400, 8100, 9300]


def test_what_has_come_stays_and_so_does_an_end(acme: Any) -> None:
    change(acme, "2026-01-11", quantity="3")
    after = change(acme, "2026-01-12", plan_key="max")["subscription"]
    cancel(after, "2026-01-13")
    undo(acme, "2026-01-14")
    undo(after, "2026-01-14")
    assert [(key, str(end)[:10]) for key, end in query(IN_FORCE)] == [
        ("max", "2026-02-01"),
        ("pro", "2026-01-12"),
    ]


def test_an_end_that_was_there_before_is_there_again(acme: Any) -> None:
    cancel(acme, "2026-01-05", when="period_end")
    query("UPDATE subscriptions SET ended_at = '2026-03-01' RETURNING 1")
    change(acme, "2026-01-11", plan_key="max", when="period_end")
    assert str(undo(acme, "2026-01-12")["ended_at"]) == "2026-03-01T00:00:00Z"


def test_a_chain_is_taken_back_from_its_end(acme: Any) -> None:
    second = change(acme, "2026-01-11", plan_key="max", when="period_end")["subscription"]
    change(second, "2026-01-12", plan_key="ahead", when="period_end")
    with pytest.raises(SubscriptionReplaced, match="take its change back first"):
        undo(acme, "2026-01-13")
    undo(second, "2026-01-13")
    assert undo(acme, "2026-01-13")["ended_at"] is None


def test_credit_that_was_given_ahead_is_taken_back(acme: Any) -> None:
    set_product(product_key="CALLS", name="Calls", type="quantity")
    plan(give("100"), plan_key="gold", name="Gold")
    change(acme, "2026-01-31T23:59:30", plan_key="gold", when="period_end")
    given = query("SELECT remaining_amount FROM credit_batches")
    undo(acme, "2026-01-31T23:59:40")
    assert [int(one) for (one,) in given] == [100]
    assert [int(one) for (one,) in query("SELECT remaining_amount FROM credit_batches")] == [0]


def test_an_operator_takes_a_change_back(billing: Command, acme: Any) -> None:
    change(acme, "2026-01-11", plan_key="max", when="period_end")
    undone = billing("subscription", "undo", str(acme["subscription_id"]), "--as-of", "2026-01-12")
    assert (undone.status, "pro" in undone.out) == (0, True)
    assert query(IN_FORCE) == [("pro", None)]

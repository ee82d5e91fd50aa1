"""Other plans, seats, cancelled and resumed: each day is charged once, by the plan it is of."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks.auto_renew import set_auto_renew
from tasks.invoice_runs import generate_invoices
from tasks.plan_changes import cancel_subscription, change_subscription, reactivate_subscription
from tasks.subscribing import PeriodFinalized, SubscriptionOver, SubscriptionReplaced
from tests.integration.billing_world import (
    fee,
    instant,
    make_plan,
    query,
    said,
    subscribe,
    usage_price,
)
from tests.integration.test_late_usage import close, used
from tests.integration.test_plan_terms import billed, of_kind

LINES = """
    SELECT prices.plan_key, price_key, line.period_start::date, line.period_end::date, amount_minor
    FROM invoice_lines AS line JOIN subscriptions ON subscriptions.id = subscription_id
    JOIN prices ON prices.id = price_id ORDER BY line.period_start, prices.plan_key, price_key
"""


def change(found: Any, at: str, **more: Any) -> Any:
    return change_subscription(
        subscription_id=found["subscription_id"],
        idempotency_key=f"change:{at}",
        as_of=instant(at),
        **more,
    )


def cancel(found: Any, at: str, **more: Any) -> Any:
    return cancel_subscription(
        subscription_id=found["subscription_id"],
        idempotency_key=f"cancel:{at}",
        as_of=instant(at),
        **more,
    )


def lines() -> list[tuple[str, str, str, str, int]]:
    return [
        (plan_key, price_key, str(first), str(after), amount)
        for plan_key, price_key, first, after, amount in query(LINES)
    ]


@pytest.fixture
def acme(db: Engine) -> Any:
    """Acme is on a plan of 31 a month since 1 January; another one costs 310."""
    make_plan(fee("31"), usage_price("calls", "1"))
    make_plan(fee("310"), usage_price("calls", "2"), of_kind("setup", "50"), plan_key="max")
    return subscribe("acme", "2026-01-01")


@pytest.mark.parametrize("wanted", [{"plan_key": "max"}, {"quantity": "2"}])
def test_nothing_changes_from_the_very_end_on(acme: Any, wanted: dict[str, str]) -> None:
    cancel(acme, "2026-01-11")

    with pytest.raises(SubscriptionOver):
        change(acme, "2026-01-11", when="period_end", **wanted)
    assert query("SELECT count(*) FROM subscriptions") == [(1,)]


def test_who_does_not_renew_does_not_on_another_plan_either(acme: Any) -> None:
    set_auto_renew(
        subscription_id=acme["subscription_id"], auto_renew=False, as_of=instant("2026-01-05")
    )

    answer = change(acme, "2026-01-11", plan_key="max")

    assert answer["subscription"]["auto_renew"] is False


def test_a_change_now_charges_each_plan_for_its_days(acme: Any) -> None:
    used("2026-01-10", "1")
    used("2026-01-11", "1")
    answer = change(acme, "2026-01-11T15:00:00", plan_key="max")

    generate_invoices(as_of=instant("2026-02-01"))

    assert answer["subscription"]["follows"] == acme["subscription_id"]
    assert lines() == [
        ("pro", "base", "2026-01-01", "2026-01-11", 1000),
        ("pro", "calls", "2026-01-01", "2026-01-11", 100),
        ("max", "base", "2026-01-11", "2026-02-01", 21000),
        ("max", "calls", "2026-01-11", "2026-02-01", 200),
    ]
    (told,) = said("billing.subscription_upgraded")
    assert (told["data"]["replaced_plan_key"], told["data"]["plan_key"]) == ("pro", "max")


def test_a_change_at_the_end_of_the_period_changes_nothing_until_then(acme: Any) -> None:
    answer = change(acme, "2026-01-11T15:00:00", plan_key="max", when="period_end")

    generate_invoices(as_of=instant("2026-03-01"))

    assert str(answer["replaced"]["ended_at"]) == "2026-02-01T00:00:00Z"
    assert [line[:1] + line[2:] for line in lines() if line[1] == "base"] == [
        ("pro", "2026-01-01", "2026-02-01", 3100),
        ("max", "2026-02-01", "2026-03-01", 31000),
    ]


def test_seats_are_charged_by_the_days_they_were_there(acme: Any) -> None:
    five = change(acme, "2026-01-11", quantity="5")
    change(five["subscription"], "2026-01-21", quantity="2")

    generate_invoices(as_of=instant("2026-02-01"))

    assert [line[4] for line in lines() if line[1] == "base"] == [1000, 5000, 2200]


def test_another_rhythm_begins_on_the_day_of_the_change(acme: Any) -> None:
    make_plan(fee("365"), plan_key="year", interval="year", anchor="anniversary")
    change(acme, "2026-01-11", plan_key="year")

    generate_invoices(as_of=instant("2027-01-11"))

    assert [line for line in lines() if line[1] == "base"] == [
        ("pro", "base", "2026-01-01", "2026-01-11", 1000),
        ("year", "base", "2026-01-11", "2027-01-11", 36500),
    ]


@pytest.mark.parametrize("trial_days", [None, 40])
def test_a_setup_fee_goes_over_only_if_nothing_was_charged_before(
    db: Engine, trial_days: int | None
) -> None:
    make_plan(fee("31"), of_kind("setup", "9"))
    make_plan(fee("28"), of_kind("setup", "5"), plan_key="max")
    acme = subscribe("acme", "2026-01-01", trial_days=trial_days)
    change(acme, "2026-02-01", plan_key="max")

    generate_invoices(as_of=instant("2026-03-01"))

    if trial_days is None:
        assert billed() == [[("setup", 900), ("fixed", 3100)], [("fixed", 2800)]]
    else:
        assert billed() == [[("setup", 500), ("fixed", 1900)]]


def test_a_change_on_the_first_day_leaves_nothing_of_the_old_plan(acme: Any) -> None:
    change(acme, "2026-01-01T12:00:00", plan_key="max")

    generate_invoices(as_of=instant("2026-02-01"))

    assert [line[0] for line in lines()] == ["max", "max", "max"]
    assert billed()[0][0] == ("setup", 5000)


def test_a_cancelled_subscription_is_billed_to_the_end_of_its_period(acme: Any) -> None:
    answer = cancel(acme, "2026-01-11")

    generate_invoices(as_of=instant("2026-06-01"))

    assert str(answer["ended_at"]) == "2026-02-01T00:00:00Z"
    assert billed() == [[("fixed", 3100), ("usage", 0)]]


def test_a_subscription_cancelled_now_is_billed_for_the_days_before(acme: Any) -> None:
    cancel(acme, "2026-01-11", when="now")

    generate_invoices(as_of=instant("2026-06-01"))

    assert billed() == [[("fixed", 1000), ("usage", 0)]]


def test_a_reactivated_subscription_goes_on_as_if_nothing_had_been(acme: Any) -> None:
    cancel(acme, "2026-01-11")
    answer = reactivate_subscription(
        subscription_id=acme["subscription_id"], as_of=instant("2026-01-20")
    )

    generate_invoices(as_of=instant("2026-03-01"))

    assert (answer["ended_at"], len(billed())) == (None, 2)
    assert reactivate_subscription(subscription_id=acme["subscription_id"])["ended_at"] is None


def test_what_is_over_or_replaced_is_refused_by_name(acme: Any) -> None:
    after = change(acme, "2026-01-11", plan_key="max")["subscription"]
    with pytest.raises(SubscriptionOver):
        change(acme, "2026-01-12", plan_key="max")
    cancel(after, "2026-01-20")
    with pytest.raises(SubscriptionOver, match="begin a new one"):
        reactivate_subscription(
            subscription_id=after["subscription_id"], as_of=instant("2026-02-01")
        )


def test_a_change_that_is_to_come_is_changed_at_its_own_subscription(acme: Any) -> None:
    change(acme, "2026-01-11", plan_key="max", when="period_end")
    with pytest.raises(SubscriptionReplaced):
        reactivate_subscription(
            subscription_id=acme["subscription_id"], as_of=instant("2026-01-12")
        )
    with pytest.raises(SubscriptionReplaced):
        cancel(acme, "2026-01-12", when="now")


def test_a_change_in_a_numbered_period_is_refused(acme: Any) -> None:
    close("2026-02-05")
    with pytest.raises(PeriodFinalized):
        change(acme, "2026-01-20", plan_key="max")


def test_of_eight_changes_at_once_one_takes_the_place(acme: Any) -> None:
    gate = threading.Barrier(8)

    def run(number: int) -> str:
        gate.wait()
        try:
            change_subscription(
                subscription_id=acme["subscription_id"],
                plan_key="max",
                idempotency_key=str(number),
                as_of=instant("2026-01-11"),
            )
        except Refusal as refusal:
            return refusal.code
        return "changed"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(run, range(8)))

    assert sorted(set(answers)) in (
        ["changed", "subscription.over"],
        ["changed", "subscription.over", "subscription.replaced"],
        ["changed", "subscription.replaced"],
    )
    assert answers.count("changed") == 1
    assert query("SELECT count(*) FROM subscriptions") == [(2,)]

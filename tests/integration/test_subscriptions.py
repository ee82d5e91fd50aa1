"""Subscriptions: begun, ended, never two of a plan at once."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from models.store.subscription_change import SubscriptionOverlaps
from tasks.invoice_runs import generate_invoices
from tasks.subscriptions import end_subscription, set_subscription
from tests.integration.billing_world import fee, instant, make_plan, query, said, subscribe


def test_a_subscription_creates_its_tenant_and_says_so(db: Engine) -> None:
    make_plan(fee("10"))

    answer = set_subscription(
        tenant_id="acme",
        plan_key="pro",
        quantity=Decimal(3),
        idempotency_key="one",
        as_of=instant("2026-01-10T08:00:00"),
    )

    assert answer["effective_at"] == "2026-01-10T08:00:00Z"
    assert answer["next_invoice_at"] == "2026-02-01T00:00:00Z"
    assert (answer["currency"], answer["quantity"], answer["ended_at"]) == ("USD", "3", None)
    (event,) = said("billing.subscription_set")
    assert event["sequence"] == 1
    assert event["data"] == {
        "tenant_id": "acme",
        "subscription_id": answer["subscription_id"],
        "plan_key": "pro",
        "quantity": "3",
        "effective_at": "2026-01-10T08:00:00Z",
        "ended_at": None,
        "trial_ends_at": None,
        "quantity_from": "2026-01-10T08:00:00Z",
    }


def test_the_same_key_gets_the_first_answer(db: Engine) -> None:
    make_plan(fee("10"))

    assert subscribe("acme", "2026-01-01") == subscribe("acme", "2026-01-01")
    assert len(said("billing.subscription_set")) == 1


def test_eight_at_once_put_a_tenant_on_a_plan_once(db: Engine) -> None:
    make_plan(fee("10"))

    def begin(number: int) -> str:
        try:
            set_subscription(
                tenant_id="acme",
                plan_key="pro",
                effective_at=instant("2026-01-01"),
                idempotency_key=f"key {number}",
            )
        except SubscriptionOverlaps as refused:
            return refused.code
        return "made"

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(begin, range(8)))

    assert outcomes == ["made"] + ["subscription.overlaps"] * 7


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"plan_key": "none"}, "plan.unknown"),
        ({"currency": "EUR"}, "subscription.no_price_in_currency"),
        ({"ended_at": instant("2025-12-31")}, "subscription.ends_before_it_starts"),
    ],
)
def test_what_can_not_be_billed_is_refused_by_name(
    db: Engine, arguments: dict[str, Any], code: str
) -> None:
    make_plan(fee("10"))

    with pytest.raises(Refusal) as refused:
        subscribe("acme", "2026-01-01", **arguments)

    assert refused.value.code == code
    assert query("SELECT count(*) FROM subscriptions") == [(0,)]


def test_a_future_subscription_changes_nothing_today(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-06-10")

    assert generate_invoices(as_of=instant("2026-06-30"))["invoices"] == 0
    assert generate_invoices(as_of=instant("2026-07-01"))["invoices"] == 1


def test_ending_twice_is_one_change(db: Engine) -> None:
    make_plan(fee("10"))
    begun = subscribe("acme", "2026-01-01")
    end = instant("2026-03-10")

    first = end_subscription(subscription_id=begun["subscription_id"], ended_at=end)
    again = end_subscription(tenant_id="acme", plan_key="pro", ended_at=end)

    assert first == again
    assert first["ended_at"] == "2026-03-10T00:00:00Z"
    told = said("billing.subscription_set")
    assert [event["sequence"] for event in told] == [1, 2]
    assert told[1]["data"]["ended_at"] == "2026-03-10T00:00:00Z"


def test_after_its_end_the_plan_can_be_taken_again_and_the_end_not_moved_over_it(
    db: Engine,
) -> None:
    make_plan(fee("10"))
    begun = subscribe("acme", "2026-01-01")
    end_subscription(subscription_id=begun["subscription_id"], ended_at=instant("2026-03-10"))
    subscribe("acme", "2026-04-01")

    with pytest.raises(SubscriptionOverlaps):
        end_subscription(subscription_id=begun["subscription_id"], ended_at=instant("2026-04-02"))


def test_which_subscription_ends_must_be_said(db: Engine) -> None:
    with pytest.raises(Refusal) as unnamed:
        end_subscription(tenant_id="acme")
    with pytest.raises(Refusal) as unknown:
        end_subscription(tenant_id="acme", plan_key="pro")

    assert (unnamed.value.code, unknown.value.code) == (
        "subscription.not_named",
        "subscription.unknown",
    )

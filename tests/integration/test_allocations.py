"""Plans' credit: given once a period, in the tenant's own days, renewed, carried on, taken back."""

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.rules.refusal import Refusal
from tasks import config
from tasks.auto_renew import set_auto_renew
from tasks.batches import revoke
from tasks.credits import consume_quota, get_balance
from tasks.reservations import reserve_credits
from tasks.tenants import set_tenant
from tests.integration import wallet
from tests.integration.billing_world import instant, query, said
from tests.integration.plan_credits import ask, end, give, given, granted, join, plan, renew


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A product to give."""
    wallet.product()


def spend(amount: Any, at: str, **rest: Any) -> Any:
    arguments = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount), **rest}
    return consume_quota(**arguments, idempotency_key=f"{at} {amount}", as_of=instant(at))


def reserve(amount: int, at: str, *, hours: int) -> None:
    reserve_credits(
        tenant_id="acme",
        product_key="CALLS",
        amount=str(amount),
        ttl_seconds=hours * 3600,
        idempotency_key=f"{at} {amount}",
        as_of=instant(at),
    )


def sweep(at: str) -> None:
    """Write off what is over, as beat has it done every minute."""
    wallet.sweep((instant(at) - wallet.START) / dt.timedelta(days=1))


def available(at: str) -> int:
    answer = get_balance(tenant_id="acme", product_key="CALLS", as_of=instant(at))
    return int(answer["available"])


def ledger() -> list[tuple[Any, ...]]:
    rows = query("SELECT direction, action, amount FROM ledger_entries ORDER BY id")
    return [(direction, action, int(amount)) for direction, action, amount in rows]


def test_a_plan_tells_what_it_gives_and_never_edits_a_version(db: Engine) -> None:
    wallet.product("SEATS")
    first = plan(give("100.50", rollover="capped", rollover_cap="50"), give(5, "seats"))
    same = plan(give("100.5", rollover="capped", rollover_cap="50.0"), give(5, "SEATS"))
    changed = plan(give(200), at=instant("2026-02-10"))
    kept = plan(credits=None, at=instant("2026-02-11"))
    none = plan(at=instant("2026-02-12"))

    assert first["credits"] == same["credits"]
    assert first["credits"][0] == {
        "product_key": "CALLS",
        "credit_limit": "100.5",
        "validity_days": None,
        "rollover": "capped",
        "rollover_cap": "50",
        "prorate_first": False,
    }
    assert [one["credit_limit"] for one in changed["credits"]] == ["200"]
    assert kept["credits"] == changed["credits"]
    assert none["credits"] == []
    versions = "SELECT product_key, credit_limit, effective_at, ended_at FROM plan_credits"
    assert query(f"{versions} ORDER BY product_key, ended_at") == [
        ("CALLS", Decimal("100.50"), None, instant("2026-02-10")),
        ("CALLS", 200, instant("2026-02-10"), instant("2026-02-12")),
        ("SEATS", 5, None, instant("2026-02-10")),
    ]


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ([give(rollover="capped")], "plan_credit.invalid"),
        ([give(rollover="all", rollover_cap="5")], "plan_credit.invalid"),
        ([give(rollover="all", validity_days=30)], "plan_credit.invalid"),
        ([give(), give(5, "calls")], "plan_credit.invalid"),
        ([give(product_key="NONE")], "product.unknown"),
        ([give(0)], "message.invalid"),
        ([give(validity_days=0)], "message.invalid"),
        ([give(rollover="some")], "message.invalid"),
    ],
)
def test_terms_that_contradict_one_another_are_refused_by_name(
    db: Engine, terms: list[dict[str, Any]], code: str
) -> None:
    with pytest.raises(Refusal) as refused:
        plan(*terms)

    assert refused.value.code == code
    assert query("SELECT count(*) FROM plans") == [(0,)]


def test_terms_are_not_changed_before_their_last_change(db: Engine) -> None:
    plan(give(1))
    plan(give(2), at=instant("2026-02-10"))

    with pytest.raises(Refusal) as refused:
        plan(give(3), at=instant("2026-02-10"))
    assert refused.value.code == "plan_credit.set_later"
    plan(at=instant("2026-02-12"))
    with pytest.raises(Refusal):
        plan(give(3), at=instant("2026-02-11"))
    again = plan(give(3), at=instant("2026-02-12"))
    assert [one["credit_limit"] for one in again["credits"]] == ["3"]


def test_a_new_subscription_has_its_credit_at_once(db: Engine) -> None:
    plan(give(100))
    subscription_id = join("2026-01-10T08:00")

    assert granted() == [("plan", 100, "2026-01-10T08:00", "2026-02-01")]
    assert available("2026-01-10T08:00") == 100
    (event,) = said("billing.subscription_credits_allocated")
    assert event["data"] == {
        "tenant_id": "acme",
        "subscription_id": subscription_id,
        "plan_key": "pro",
        "product_key": "CALLS",
        "batch_id": event["data"]["batch_id"],
        "amount": "100",
        "period_start": "2026-01-01T00:00:00Z",
        "period_end": "2026-02-01T00:00:00Z",
        "expires_at": "2026-02-01T00:00:00Z",
    }
    batch = query("SELECT id, metadata FROM credit_batches")[0]
    assert str(batch[0]) == event["data"]["batch_id"]
    assert batch[1]["subscription_id"] == subscription_id
    assert len(said("billing.credits_granted")) == 1
    wallet.assert_sound()


def test_each_period_is_given_once_however_often_the_bell_rings(db: Engine) -> None:
    plan(give(100))
    subscription_id = join("2026-01-10")

    rung = [
        renew(at) for at in ("2026-01-20", "2026-02-01", "2026-02-01", "2026-02-28", "2026-03-01")
    ]
    asked = [ask(subscription_id, "2026-03-02") for _ in range(2)]

    assert [one["allocations"] for one in rung] == [0, 1, 0, 0, 1]
    assert all(one["finished"] for one in rung)
    assert [one["made"] for one in asked] == [0, 0]
    assert asked[0]["allocations"] == asked[1]["allocations"]
    assert asked[0]["allocations"][0]["period_start"] == "2026-03-01T00:00:00Z"
    assert granted() == [
        ("plan", 100, "2026-01-10", "2026-02-01"),
        ("plan", 100, "2026-02-01", "2026-03-01"),
        ("plan", 100, "2026-03-01", "2026-04-01"),
    ]
    assert len(said("billing.subscription_credits_allocated")) == 3


def test_credit_is_there_before_its_period_and_spent_from_its_beginning(db: Engine) -> None:
    """An hour ahead, so that nobody waits at midnight; and nobody is told of an empty wallet."""
    plan(give(100))
    join("2026-01-10")

    assert renew("2026-01-31T22:59")["allocations"] == 0
    assert renew("2026-01-31T23:00")["allocations"] == 1
    assert available("2026-01-31T23:30") == 100
    assert spend(150, "2026-01-31T23:59:59")["consumed"] is False
    assert spend(60, "2026-02-01T00:00")["consumed"] is True
    sweep("2026-02-01T00:00")

    assert available("2026-02-01T00:01") == 40
    assert said("billing.product_deactivated") == []
    assert ledger()[-1] == ("DEBIT", "expire", 100)
    wallet.assert_sound()


def test_how_long_ahead_is_a_setting(db: Engine) -> None:
    config.use(dataclasses.replace(config.current(), allocate_ahead=dt.timedelta()))
    plan(give(100))
    join("2026-01-10")

    assert renew("2026-01-31T23:59:59")["allocations"] == 0
    assert renew("2026-02-01")["allocations"] == 1


def test_periods_are_of_the_tenants_own_days(db: Engine) -> None:
    plan(give(100), interval="month", anchor="anniversary")
    join("2026-01-30T20:00", timezone="Asia/Tokyo")
    for at in ("2026-02-28", "2026-03-31", "2026-05-01"):
        renew(at)

    # It was the 31st in Tokyo, whose midnight is at 15:00; months are counted from that day.
    assert granted() == [
        ("plan", 100, "2026-01-30T20:00", "2026-02-27T15:00"),
        ("plan", 100, "2026-02-27T15:00", "2026-03-30T15:00"),
        ("plan", 100, "2026-03-30T15:00", "2026-04-29T15:00"),
        ("plan", 100, "2026-04-29T15:00", "2026-05-30T15:00"),
    ]


def test_moving_to_another_zone_gives_no_period_twice(db: Engine) -> None:
    plan(give(100))
    join("2026-01-10", timezone="America/Los_Angeles")
    renew("2026-02-01T07:30")
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo", as_of=instant("2026-02-01T08:00"))
    renew("2026-02-01T08:30")
    renew("2026-02-28T14:00")

    assert [one[:2] for one in given()] == [
        ("2026-01-01", 100),
        ("2026-02-01", 100),
        ("2026-03-01", 100),
    ]
    assert granted()[-1] == ("plan", 100, "2026-02-28T15:00", "2026-03-31T15:00")


def test_after_a_downtime_of_months_every_period_is_caught_up_in_order(db: Engine) -> None:
    plan(give(100))
    join("2026-01-10")

    answer = renew("2026-05-20")

    assert (answer["subscriptions"], answer["allocations"]) == (1, 4)
    assert given() == [
        ("2026-01-01", 100, 0, True),
        # Over before they could be granted: entered, and nothing granted.
        ("2026-02-01", 100, 0, False),
        ("2026-03-01", 100, 0, False),
        ("2026-04-01", 100, 0, False),
        ("2026-05-01", 100, 0, True),
    ]
    assert granted()[1:] == [("plan", 100, "2026-05-01", "2026-06-01")]
    assert available("2026-05-20") == 100
    wallet.assert_sound()


def test_credit_that_is_over_at_this_very_instant_is_entered_and_not_granted(db: Engine) -> None:
    plan(give(100))
    join("2026-01-10")

    assert renew("2026-03-01")["failed"] == 0
    assert given()[1:] == [("2026-02-01", 100, 0, False), ("2026-03-01", 100, 0, True)]


def test_one_that_ends_on_the_day_it_begins_is_given_nothing(db: Engine) -> None:
    plan(give(100))
    join(
        "2026-01-10T00:20",
        ended_at=instant("2026-01-10T18:00"),
        as_of=instant("2026-01-09T23:30"),
    )

    assert renew("2026-02-01")["allocations"] == 0
    assert given() == []


def test_a_downtime_longer_than_one_transaction_takes_is_caught_up_in_one_run(db: Engine) -> None:
    plan(give(10, rollover="all"), interval="day")
    join("2026-01-01")

    answer = renew("2026-03-31T12:00")

    assert (answer["subscriptions"], answer["allocations"]) == (4, 89)
    assert len(given()) == 90
    assert available("2026-03-31T12:00") == 900
    wallet.assert_sound()


def test_a_subscription_of_the_past_gets_what_it_missed(db: Engine) -> None:
    plan(give(100, rollover="capped", rollover_cap="150"))
    join("2026-01-10", as_of=instant("2026-04-02"))

    assert given() == [
        ("2026-01-01", 100, 0, False),
        ("2026-02-01", 100, 100, False),
        ("2026-03-01", 100, 150, False),
        ("2026-04-01", 100, 150, True),
    ]
    assert available("2026-04-02") == 250


def test_a_subscription_of_the_future_gets_its_credit_when_it_begins(db: Engine) -> None:
    plan(give(100))
    join("2026-03-10T12:00", as_of=instant("2026-01-01"))

    assert renew("2026-03-10T10:59")["allocations"] == 0
    assert renew("2026-03-10T11:00")["allocations"] == 1
    assert available("2026-03-10T11:59") == 0
    assert available("2026-03-10T12:00") == 100


@pytest.mark.parametrize(
    ("limit", "joined", "share"),
    [
        ("100", "2026-01-10", "71"),
        ("1", "2026-01-31", "0"),
        ("10.00", "2026-01-16", "5"),
        ("0.5", "2026-01-10", "0.4"),
        ("100", "2026-01-01T23:00", "100"),
    ],
)
def test_the_first_period_is_prorated_by_local_days_if_the_plan_says_so(
    db: Engine, limit: str, joined: str, share: str
) -> None:
    plan(give(limit, prorate_first=True))
    join(joined)
    renew("2026-02-01")

    amounts = query("SELECT amount FROM credit_allocations ORDER BY first_day")
    assert [amount for (amount,) in amounts] == [Decimal(share), Decimal(limit)]
    assert len(granted()) == (2 if Decimal(share) else 1)


def test_credit_can_be_valid_for_days_of_its_own(db: Engine) -> None:
    plan(give(100, validity_days=45))
    join("2026-01-10T08:00", timezone="Europe/Berlin")
    renew("2026-02-01")

    assert granted() == [
        ("plan", 100, "2026-01-10T08:00", "2026-02-23T23:00"),
        ("plan", 100, "2026-01-31T23:00", "2026-03-17T23:00"),
    ]
    assert available("2026-02-02") == 200


def test_what_is_left_is_written_off(db: Engine) -> None:
    plan(give(100))
    join("2026-01-10")
    spend(30, "2026-01-20")
    renew("2026-02-01")
    sweep("2026-02-01")

    assert ledger() == [
        ("CREDIT", "grant", 100),
        ("DEBIT", "consume", 30),
        ("CREDIT", "grant", 100),
        ("DEBIT", "expire", 70),
    ]
    assert available("2026-02-01") == 100


@pytest.mark.parametrize("swept", ["before", "after"])
@pytest.mark.parametrize(
    ("rule", "carried"),
    [({"rollover": "all"}, 70), ({"rollover": "capped", "rollover_cap": "50"}, 50)],
)
def test_what_is_left_is_carried_on_whether_or_not_the_sweep_came_first(
    db: Engine, rule: dict[str, str], carried: int, swept: str
) -> None:
    plan(give(100, **rule))
    join("2026-01-10")
    renew("2026-01-31T23:30")
    spend(30, "2026-01-31T23:45")
    if swept == "before":
        sweep("2026-02-01")
    renew("2026-02-01")
    sweep("2026-02-01")

    assert ledger() == [
        ("CREDIT", "grant", 100),
        ("CREDIT", "grant", 100),
        ("DEBIT", "consume", 30),
        ("DEBIT", "expire", 70),
        ("CREDIT", "grant", carried),
    ]
    assert granted()[-1] == ("rollover", carried, "2026-02-01", "2026-03-01")
    assert available("2026-02-01") == 100 + carried
    assert len(said("billing.credits_expired")) == 1
    wallet.assert_sound()


def test_what_was_carried_on_is_spent_first_and_carried_on_again(db: Engine) -> None:
    plan(give(100, rollover="capped", rollover_cap="80"))
    join("2026-01-10")
    renew("2026-02-01")
    spend(30, "2026-02-10")
    renew("2026-03-01")
    spend(100, "2026-03-10")

    # 80 carried into February, of which 50 are left, and its own 100: 80 of these into March.
    assert [one[:3] for one in given()] == [
        ("2026-01-01", 100, 0),
        ("2026-02-01", 100, 80),
        ("2026-03-01", 100, 80),
    ]
    left = "SELECT source, remaining_amount FROM credit_batches WHERE state <> 'EXPIRED'"
    assert query(f"{left} ORDER BY source") == [("plan", 80), ("rollover", 0)]
    wallet.assert_sound()


def test_what_was_taken_back_or_is_held_at_the_end_is_not_carried_on(db: Engine) -> None:
    wallet.product("SEATS")
    plan(give(100, rollover="all"), give(10, "SEATS", rollover="all"))
    join("2026-01-10")
    reserve(40, "2026-01-31", hours=48)
    reserve(25, "2026-01-31", hours=12)
    (seats,) = query("SELECT id FROM credit_batches WHERE product_key = 'SEATS'")[0]
    revoke(
        tenant_id="acme",
        batch_id=seats,
        reason="a test",
        actor="ann",
        idempotency_key="r",
        as_of=instant("2026-01-20"),
    )

    renew("2026-02-01")

    # The hold of 25 was over before the period was, though nobody had swept it.
    carried = "SELECT product_key, carried FROM credit_allocations WHERE first_day = '2026-02-01'"
    assert query(f"{carried} ORDER BY 1") == [("CALLS", 60), ("SEATS", 0)]
    assert len(said("billing.reservation_released")) == 1
    wallet.assert_sound()


def test_what_is_carried_on_is_decided_by_the_terms_of_the_period_it_is_left_of(
    db: Engine,
) -> None:
    plan(give(100, rollover="capped", rollover_cap="30"))
    join("2026-01-10")
    plan(give(100, rollover="all"), at=instant("2026-01-20"))
    renew("2026-02-01")
    renew("2026-03-01")

    assert [one[:3] for one in given()] == [
        ("2026-01-01", 100, 0),
        ("2026-02-01", 100, 30),
        ("2026-03-01", 100, 130),
    ]


def test_what_is_left_waits_for_the_period_to_begin_where_its_tenant_is_now(db: Engine) -> None:
    plan(give(100, rollover="all"))
    join("2026-01-10", timezone="Asia/Tokyo")
    set_tenant(tenant_id="acme", timezone="America/Los_Angeles", as_of=instant("2026-01-20"))

    # January ended in Tokyo; February begins in Los Angeles.
    renew("2026-02-01T07:30")
    assert given()[1] == ("2026-02-01", 100, None, True)
    renew("2026-02-01T08:00")
    assert given()[1] == ("2026-02-01", 100, 100, True)


def test_of_a_batch_that_is_held_whole_nothing_is_left_and_nothing_told(db: Engine) -> None:
    plan(give(100, rollover="all"))
    join("2026-01-10")
    reserve(100, "2026-01-31", hours=48)
    renew("2026-02-01")

    assert given()[1] == ("2026-02-01", 100, 0, True)
    assert said("billing.credits_expired") == []


def test_plans_credit_pays_what_is_owed_first(db: Engine) -> None:
    plan(give(100, rollover="all"))
    join("2026-01-10")
    wallet.deduct(130, "d", day=(instant("2026-01-20") - wallet.START) / dt.timedelta(days=1))

    renew("2026-02-01")

    assert available("2026-02-01") == 70
    assert query("SELECT carried FROM credit_allocations ORDER BY first_day") == [(0,), (0,)]
    wallet.assert_sound()


def test_the_terms_in_force_when_a_period_begins_decide_for_all_of_it(db: Engine) -> None:
    plan(give(100))
    join("2026-01-10")
    plan(give(300), at=instant("2026-01-20"))
    ask_nothing = renew("2026-01-21")
    renew("2026-02-01")
    plan(at=instant("2026-02-10"))
    renew("2026-03-01")

    assert ask_nothing["allocations"] == 0
    assert [one[:2] for one in given()] == [("2026-01-01", 100), ("2026-02-01", 300)]


def test_a_plan_that_begins_to_give_does_so_from_the_next_period_on(db: Engine) -> None:
    plan()
    join("2025-12-10")
    join("2026-03-10", tenant_id="later", as_of=instant("2026-01-05"))
    plan(give(100), at=instant("2026-01-20"))

    assert renew("2026-01-25")["allocations"] == 0
    assert renew("2026-03-10")["allocations"] == 3
    assert given() == [
        ("2026-02-01", 100, 0, False),
        ("2026-03-01", 100, 0, True),
        ("2026-03-01", 100, 0, True),
    ]


def test_one_that_does_not_renew_gets_its_first_period_and_what_is_asked_for(db: Engine) -> None:
    plan(give(100, rollover="all"))
    subscription_id = join("2026-01-10", auto_renew=False)
    for at in ("2026-02-01", "2026-03-05"):
        assert renew(at)["allocations"] == 0

    # After a payment, say. February was not asked for, so March has nothing to carry on from.
    assert ask(subscription_id, "2026-03-06")["made"] == 1
    assert ask(subscription_id, "2026-03-06")["made"] == 0
    assert ask(subscription_id, "2026-03-31T23:59")["made"] == 0
    assert ask(subscription_id, "2026-04-01")["made"] == 1
    assert given() == [
        ("2026-01-01", 100, 0, True),
        ("2026-03-01", 100, 0, True),
        ("2026-04-01", 100, 100, True),
    ]


def test_renewal_can_be_switched_off_and_on(db: Engine) -> None:
    plan(give(100))
    subscription_id = join("2026-01-10")
    renew("2026-01-31T23:30")

    def switch(auto_renew: bool, at: str) -> Any:
        return set_auto_renew(
            subscription_id=subscription_id, auto_renew=auto_renew, as_of=instant(at)
        )

    switch(False, "2026-01-31T23:40")
    assert given() == [("2026-01-01", 100, 0, True)]
    assert [event["data"]["amount"] for event in said("billing.credits_revoked")] == ["100"]
    assert renew("2026-02-01")["allocations"] == 0
    assert renew("2026-03-01")["allocations"] == 0
    switch(True, "2026-03-10")
    switch(True, "2026-03-10")
    assert renew("2026-03-10")["allocations"] == 1

    # February was missed on purpose, so it is not caught up.
    assert given() == [("2026-01-01", 100, 0, True), ("2026-03-01", 100, 0, True)]
    # What has begun stays, from its first instant on.
    renew("2026-03-31T23:30")
    switch(False, "2026-04-01")
    assert given()[2:] == [("2026-04-01", 100, 0, True)]
    wallet.assert_sound()


def test_credit_ends_with_the_subscription_if_its_end_is_known(db: Engine) -> None:
    plan(give(100))
    join("2026-01-10", ended_at=instant("2026-02-15T18:00"))
    renew("2026-02-01")
    renew("2026-03-01")

    assert granted() == [
        ("plan", 100, "2026-01-10", "2026-02-01"),
        ("plan", 100, "2026-02-01", "2026-02-15"),
    ]


def test_what_was_granted_ahead_of_an_ended_subscription_is_taken_back(db: Engine) -> None:
    plan(give(100))
    subscription_id = join("2026-01-10")
    renew("2026-01-31T23:30")

    end(subscription_id, "2026-02-01", at="2026-01-31T23:40")
    renew("2026-02-05")

    assert given() == [("2026-01-01", 100, 0, True)]
    assert available("2026-01-31T23:50") == 100
    assert available("2026-02-05") == 0
    reason = "SELECT revoked_reason, revoked_by FROM credit_batches WHERE state = 'REVOKED'"
    assert query(reason) == [("the subscription ended on 2026-02-01", "billing.end_subscription")]
    wallet.assert_sound()


def test_an_end_that_is_moved_on_gives_the_periods_before_it_again(db: Engine) -> None:
    plan(give(100, rollover="all"))
    subscription_id = join("2026-01-10")
    renew("2026-01-31T23:30")
    end(subscription_id, "2026-02-01", at="2026-01-31T23:40")
    renew("2026-01-31T23:45")
    end(subscription_id, "2026-04-01", at="2026-01-31T23:50")
    renew("2026-02-02")
    renew("2026-04-05")

    assert [one[:3] for one in given()] == [
        ("2026-01-01", 100, 0),
        ("2026-02-01", 100, 100),
        ("2026-03-01", 100, 200),
    ]
    wallet.assert_sound()


def test_the_period_in_which_it_ends_keeps_its_credit(db: Engine) -> None:
    plan(give(100))
    subscription_id = join("2026-01-10")
    end(subscription_id, "2026-01-20", at="2026-01-20")

    assert available("2026-01-30") == 100
    assert renew("2026-02-01")["allocations"] == 0


def test_a_product_that_is_switched_off_is_passed_over_and_said_so(
    db: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    wallet.product("SEATS")
    plan(give(100, rollover="all"), give(5, "SEATS"))
    join("2026-01-10")
    wallet.product(active=False)
    answer = renew("2026-02-01")
    wallet.product(active=True)
    renew("2026-03-01")

    assert (answer["allocations"], answer["failed"]) == (1, 0)
    assert "allocation.product_inactive" in caplog.text
    assert [one[1] for one in granted()] == [100, 100]
    assert [one[1] for one in granted("SEATS")] == [5, 5, 5]


def test_what_is_carried_waits_for_its_product_to_be_switched_on(db: Engine) -> None:
    plan(give(100, rollover="all"))
    join("2026-01-10")
    renew("2026-01-31T23:30")
    wallet.product(active=False)
    assert renew("2026-02-01")["failed"] == 0
    wallet.product(active=True)
    renew("2026-03-01")

    assert [one[:3] for one in given()][1:] == [("2026-02-01", 100, 100), ("2026-03-01", 100, 200)]
    assert available("2026-03-01") == 300


def test_a_subscription_that_can_not_be_renewed_stops_no_other_and_is_kept(db: Engine) -> None:
    plan(give(100))
    bad = join("2026-01-10", tenant_id="bad")
    join("2026-01-10", tenant_id="good")
    with db.begin() as connection:
        # As only a database out of order has it.
        connection.execute(text("UPDATE tenants SET timezone = 'Nowhere' WHERE tenant_id = 'bad'"))

    answers = [renew("2026-02-01"), renew("2026-02-02")]

    assert [(one["allocations"], one["failed"]) for one in answers] == [(1, 1), (0, 1)]
    kept = "SELECT task, payload->>'subscription_id', seen_count, code FROM rejected_messages"
    assert query(kept) == [("billing.allocate_subscription_credits", bad, 2, "unexpected")]
    set_tenant(tenant_id="bad", timezone="UTC", as_of=instant("2026-02-02"))
    assert renew("2026-02-03")["allocations"] == 1


def test_an_unknown_subscription_is_refused_by_name(db: Engine) -> None:
    nobody = "01890000-0000-7000-8000-000000000000"
    with pytest.raises(Refusal) as refused:
        ask(nobody, "2026-01-01")
    assert refused.value.code == "subscription.unknown"
    with pytest.raises(Refusal):
        set_auto_renew(subscription_id=nobody, auto_renew=False)


def test_a_plan_without_credit_gives_none(db: Engine) -> None:
    plan()
    subscription_id = join("2026-01-10")

    assert ask(subscription_id, "2026-01-20")["allocations"] == []
    assert renew("2026-02-01") == {
        "subscriptions": 0,
        "allocations": 0,
        "failed": 0,
        "finished": True,
    }

"""Offers, decisions and plans' credit: many at once, and dying anywhere in the middle."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from models.base import Base
from tasks.adjustments import adjust_credits, grant_credits
from tasks.allocations import allocate_subscription_credits, renew_subscriptions
from tasks.batches import revoke
from tasks.exchange import exchange
from tasks.offer_grants import grant_offer
from tasks.offers import set_offer
from tasks.subscriptions import end_subscription
from tests.integration import wallet
from tests.integration.billing_world import instant, query
from tests.integration.contents import rows_of
from tests.integration.plan_credits import ask, give, given, join, plan, renew
from tests.integration.test_credit_crashes import (
    begin,
    die_after_commit,
    die_before,
    ends_by_kill,
    was_killed,
)
from tests.integration.test_credit_races import at_once

MOST_STATEMENTS = 120
LATE = instant("2026-05-20")
WHY: Any = {"reason": "a test", "actor": "ann"}

CALLS: dict[str, Callable[[dict[str, str]], Any]] = {
    "set_offer": lambda _: set_offer(sku="pack", price="2", items=[ITEMS[1]]),
    "grant_offer": lambda _: grant_offer(
        tenant_id="newcomer", sku="pack", source="shop", idempotency_key="g", as_of=LATE
    ),
    "exchange": lambda _: exchange(tenant_id="acme", sku="swap", idempotency_key="x", as_of=LATE),
    "adjust_credits": lambda _: adjust_credits(
        tenant_id="acme", product_key="COINS", amount="-5", idempotency_key="a", as_of=LATE, **WHY
    ),
    "adjust_credits up": lambda _: adjust_credits(
        tenant_id="acme", product_key="COINS", amount="5", idempotency_key="a", as_of=LATE, **WHY
    ),
    "grant_credits": lambda _: grant_credits(
        tenant_id="acme", product_key="CALLS", amount="5", idempotency_key="m", as_of=LATE, **WHY
    ),
    "revoke": lambda _: revoke(
        tenant_id="acme", source="manual", idempotency_key="r", as_of=LATE, **WHY
    ),
    "allocate": lambda ids: allocate_subscription_credits(
        subscription_id=ids["subscription"], as_of=LATE
    ),
    "end": lambda ids: end_subscription(
        subscription_id=ids["subscription"],
        ended_at="2026-02-01",
        as_of=instant("2026-01-31T23:45"),
    ),
}

ITEMS: Any = [
    {"product_key": "CALLS", "quantity": "10", "period": "days", "value": 5},
    {"product_key": "COINS", "quantity": "1"},
]


@pytest.fixture
def ids(db: Engine) -> dict[str, str]:
    """Products, offers, a plan that carries on, and a tenant with all of it."""
    wallet.product()
    wallet.product("COINS", is_currency=True)
    for sku, currency in (("pack", "EUR"), ("swap", "COINS")):
        set_offer(sku=sku, name=sku, price="3", currency=currency, items=ITEMS)
    plan(give(100, rollover="all"), give(7, "COINS", validity_days=3))
    subscription_id = join("2026-01-10")
    renew("2026-01-31T23:30")
    for key in ("CALLS", "COINS"):
        wallet.grant(20, key, product_key=key, day=0.5)
    return {"subscription": subscription_id}


def contents(db: Engine) -> dict[str, list[str]]:
    """Every row of every table."""
    return rows_of(db, Base.metadata.tables)


@pytest.mark.parametrize("name", CALLS)
def test_dying_between_two_statements_leaves_nothing(
    db: Engine, ids: dict[str, str], name: str
) -> None:
    before = contents(db)

    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), lambda: CALLS[name](ids)):
            break
        assert contents(db) == before, number
    else:
        pytest.fail(f"{name} needs more than {MOST_STATEMENTS} statements")

    assert number >= 5
    assert contents(db) != before
    wallet.assert_sound()


@pytest.mark.parametrize("name", CALLS)
def test_dying_after_the_commit_leaves_all_and_the_call_comes_again(
    db: Engine, ids: dict[str, str], name: str
) -> None:
    assert ends_by_kill(die_after_commit, lambda: CALLS[name](ids))
    done = contents(db)
    CALLS[name](ids)

    assert contents(db) == done
    wallet.assert_sound()


def test_renewals_at_once_give_each_period_once(db: Engine) -> None:
    wallet.product()
    plan(give(100, rollover="capped", rollover_cap="50"))
    subscriptions = [join("2026-01-10", tenant_id=f"t{number}") for number in range(24)]

    def work(thread: int) -> int:
        if thread < 4:
            answer = renew_subscriptions(as_of=LATE)
            assert answer["failed"] == 0
            return int(answer["allocations"])
        return sum(int(ask(one, "2026-05-20")["made"]) for one in subscriptions[thread::4])

    made = at_once(8, work)

    assert sum(made) == 24 * 4
    assert sorted(given()) == sorted(
        [("2026-01-01", 100, 0, True)] * 24
        + [(f"2026-0{month}-01", 100, 50, month == 5) for month in (2, 3, 4, 5)] * 24
    )
    assert query("SELECT sum(balance), max(balance) FROM credit_balances") == [(24 * 150, 150)]
    wallet.assert_sound()


def test_renewing_while_it_is_spent_and_swept_is_exact(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes first at midnight, every unit is spent, carried on or written off."""
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    wallet.product()
    plan(give(100, rollover="capped", rollover_cap="60"))
    for number in range(6):
        join("2026-01-10", tenant_id=f"t{number}")
    midnight = (instant("2026-02-01") - wallet.START).days
    before = midnight - 1 / 24

    def work(thread: int) -> int:
        if thread == 0:
            return renew("2026-02-01") and 0
        if thread == 1:
            return wallet.sweep(midnight) and 0
        # Late callers whose clocks still show January, too.
        spent = 0
        for number in range(40):
            day = (before, midnight)[number // 6 % 2]
            tenant_id = f"t{number % 6}"
            answer = wallet.consume(3, f"{thread}-{number}", day=day, tenant_id=tenant_id)
            spent += 3 * answer["consumed"]
        return spent

    spent = sum(at_once(6, work))
    wallet.sweep(midnight)
    renew("2026-02-01")

    assert spent > 0  # who comes with January's clock after its end may go without
    totals = dict(query("SELECT action, sum(amount) FROM ledger_entries GROUP BY action"))
    carried = query("SELECT sum(carried), max(carried) FROM credit_allocations")[0]
    assert totals["grant"] == 6 * 200 + carried[0]
    assert carried[1] <= 60
    # For each tenant: what was written off of January is what it had not spent of it, and of that
    # as much as the rule allows came back.
    assert query("""
        SELECT count(*) FROM credit_allocations AS february
        JOIN credit_allocations AS january USING (subscription_id)
        JOIN ledger_entries AS over ON over.batch_id = january.batch_id AND over.action = 'expire'
        WHERE january.first_day < february.first_day AND february.carried = least(over.amount, 60)
    """) == [(6,)]
    assert query("SELECT sum(balance) FROM credit_balances") == [
        (totals["grant"] - spent - totals["expire"],)
    ]
    wallet.assert_sound()


@pytest.mark.slow
def test_a_renewal_that_is_killed_again_and_again_gives_each_period_once(
    db: Engine,
) -> None:
    wallet.product()
    plan(give(100, rollover="all"))
    for number in range(80):
        join("2026-01-10", tenant_id=f"t{number}")
    kills = 0
    while True:
        child = begin(lambda _: None, lambda: renew_subscriptions(as_of=LATE))
        if kills < 6:
            time.sleep(0.05 + 0.03 * kills)
            os.kill(child, signal.SIGKILL)
        if not was_killed(child):
            break
        kills += 1

    assert kills >= 3
    assert query("SELECT count(*), count(DISTINCT subscription_id) FROM credit_allocations") == [
        (80 * 5, 80)
    ]
    assert query("SELECT min(balance), max(balance) FROM credit_balances") == [(500, 500)]
    allocated = "SELECT count(*) FROM outbox_messages WHERE type = :topic"
    topic = "billing.subscription_credits_allocated"
    assert query(allocated, topic=topic) == [(160,)]
    wallet.assert_sound()

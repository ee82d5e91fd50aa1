"""Orders, many at once and killed in the middle: one winner, one grant, all of it or nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tasks.order_list import get_order
from tasks.referral_bonus import claim_referral_bonus
from tasks.referral_programs import set_referral_program
from tasks.referrals import attach_referral
from tasks.tenants import set_tenant
from tasks.trials import grant_trial
from tests.integration import shop, wallet
from tests.integration.contents import rows_of
from tests.integration.shop import all_at_once, bought, cancel, order, pay, refund
from tests.integration.test_credit_crashes import die_after_commit, die_before, ends_by_kill
from tests.integration.waiting import until_somebody_waits

TABLES = (
    "tenants",
    "orders",
    "order_items",
    "order_grants",
    "order_payments",
    "trials",
    "trial_identities",
    "referrals",
    "credit_balances",
    "credit_batches",
    "ledger_entries",
    "reservations",
    "idempotency_keys",
    "outbox_messages",
)

MOST_STATEMENTS = 60


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    shop.open_shop()


def state(made: Any) -> str:
    return get_order(order_id=made["order_id"])["state"]


def test_eight_confirmations_by_one_payment_grant_once_and_answer_alike(db: Engine) -> None:
    made = order()

    answers = all_at_once([lambda: pay(made)] * 8)

    assert all(answer == answers[0] for answer in answers)
    assert wallet.balance()["balance"] == "100"
    assert len(wallet.events(db, "billing.order_confirmed")) == 1
    wallet.assert_sound()


def test_of_eight_payments_of_one_order_one_confirms_it(db: Engine) -> None:
    made = order("bundle")

    answers = all_at_once([lambda n=n: pay(made, f"p{n}") for n in range(8)])  # type: ignore[misc]

    assert answers.count("order.already_paid") == 7
    assert wallet.rows(db, "SELECT count(*) FROM order_payments") == [(1,)]
    assert wallet.rows(db, "SELECT count(*) FROM credit_batches") == [(2,)]
    wallet.assert_sound()


def test_of_six_orders_one_payment_confirms_one(db: Engine) -> None:
    made = [order(key=f"o{n}", tenant_id=f"t{n % 2}") for n in range(6)]

    answers = all_at_once([lambda one=one: pay(one) for one in made])  # type: ignore[misc]

    assert answers.count("order.payment_conflict") == 5
    assert sorted(state(one) for one in made) == ["paid"] + ["pending"] * 5
    assert wallet.rows(db, "SELECT count(*) FROM credit_batches") == [(1,)]


def test_a_refund_locks_balances_in_the_order_that_everybody_keeps(db: Engine) -> None:
    made = bought()
    wallet.product("BYTES")
    wallet.grant(1, "b", product_key="BYTES")
    balance = text("SELECT FROM credit_balances WHERE product_key = :key FOR UPDATE")

    with ThreadPoolExecutor(1) as pool, db.connect() as other:
        # What was bought is of CALLS, which come after BYTES.
        other.execute(balance, {"key": "BYTES"})
        refunded = pool.submit(refund, made)
        until_somebody_waits()
        # It has not locked them before what comes first.
        other.execute(text(f"{balance} NOWAIT"), {"key": "CALLS"})
        other.commit()

        assert refunded.result(timeout=60)["state"] == "refunded"
    wallet.assert_sound()


@pytest.mark.parametrize("turn", range(4))
def test_of_paying_and_cancelling_at_once_one_wins(db: Engine, turn: int) -> None:
    made = order()
    calls = [lambda: pay(made), lambda: cancel(made), lambda: pay(made, "p2"), lambda: cancel(made)]

    all_at_once(calls[turn:] + calls[:turn])

    ended = state(made)
    assert ended in {"paid", "cancelled"}
    assert wallet.balance()["balance"] == ("100" if ended == "paid" else "0")
    told = [event["type"] for event in wallet.events(db) if ".order_" in event["type"]]
    assert told == [f"billing.order_{'confirmed' if ended == 'paid' else 'cancelled'}"]
    wallet.assert_sound()


def test_refunds_at_once_take_back_once_while_it_is_spent(db: Engine) -> None:
    paid = bought()
    spend = [lambda n=n: wallet.consume(7, f"c{n}") for n in range(6)]
    back = [lambda n=n: refund(paid, f"r{n}") for n in range(4)]

    answers = all_at_once([*spend[:3], *back, *spend[3:]])

    refunded = [one for one in answers if isinstance(one, dict) and "order_id" in one]
    assert len(refunded) == 1
    assert answers.count("order.already_refunded") == 3
    spent = 7 * sum(one["consumed"] for one in answers if "consumed" in one)
    (line,) = refunded[0]["items"]
    assert line["grants"][0]["consumed"] == str(spent)
    assert refunded[0]["refundable_minor"] == 1000 - 10 * spent
    assert wallet.balance()["balance"] == "0"
    wallet.assert_sound()


def test_bundles_bought_refunded_and_spent_at_once_do_not_wait_in_a_circle(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    items = [{"product_key": key, "quantity": "5"} for key in ("COINS", "CALLS")]
    shop.sell("other_way", items=items)
    wallet.grant(500, "g")
    paid = [bought("bundle", key=f"b{n}") for n in range(3)]
    made = [order("other_way", "bundle", key=f"o{n}") for n in range(3)]

    answers = all_at_once(
        [
            *(lambda one=one: refund(one) for one in paid),
            *(lambda one=one: pay(one, one["order_id"]) for one in made),
            *(
                lambda key=key: wallet.consume(1, f"c{key}", product_key=key)
                for key in ("COINS", "CALLS")
            ),
        ]
    )

    assert all(isinstance(answer, dict) for answer in answers), answers
    wallet.assert_sound()


def test_eight_orders_with_one_key_are_one(db: Engine) -> None:
    answers = all_at_once([lambda: order("taste", "pack")] * 8)

    assert all(answer == answers[0] for answer in answers)
    assert wallet.rows(db, "SELECT count(*) FROM orders") == [(1,)]


def contents(engine: Engine) -> dict[str, list[str]]:
    return rows_of(engine, TABLES)


@pytest.fixture
def world(db: Engine) -> dict[str, Any]:
    """One order that waits, one that is paid and partly used and held, and a referral."""
    shop.sell("try", price="0", metadata={"is_trial": True})
    set_referral_program(referrer_sku="taste", referee_sku="taste")
    set_tenant(tenant_id="ann")
    attach_referral(tenant_id="bob", referrer_tenant_id="ann", as_of=wallet.START)
    made = {
        "waits": order("bundle", key="waits"),
        "paid": bought("bundle", key="paid", tenant_id="bob"),
    }
    wallet.consume(30, "c", tenant_id="bob")
    wallet.hold(20, tenant_id="bob", days=0.5)
    return made


TWO: Any = [{"provider": "email", "external_id": name} for name in ("ann", "bob")]

CALLS: dict[str, Callable[[Any], Any]] = {
    "create_order, free": lambda _: order("taste", key="new", tenant_id="newcomer"),
    "process_payment": lambda world: pay(world["waits"]),
    "cancel_order": lambda world: cancel(world["waits"]),
    "refund_order": lambda world: refund(world["paid"], day=1),
    "grant_trial": lambda _: grant_trial(
        tenant_id="newcomer",
        sku="try",
        identities=TWO,
        as_of=wallet.START,
    ),
    "attach_referral": lambda _: attach_referral(tenant_id="newcomer", referrer_tenant_id="bob"),
    "claim_referral_bonus": lambda _: claim_referral_bonus(tenant_id="bob", as_of=wallet.at(1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_dying_between_two_statements_leaves_nothing(
    db: Engine, world: dict[str, Any], name: str
) -> None:
    before = contents(db)

    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), lambda: CALLS[name](world)):
            break
        assert contents(db) == before
    else:
        pytest.fail(f"{name} needs more than {MOST_STATEMENTS} statements")

    assert number >= 5
    assert contents(db) != before
    wallet.assert_sound()


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_dying_after_the_commit_leaves_all_and_the_call_comes_again(
    db: Engine, world: dict[str, Any], name: str
) -> None:
    assert ends_by_kill(die_after_commit, lambda: CALLS[name](world))
    done = contents(db)
    CALLS[name](world)

    assert contents(db) == done
    wallet.assert_sound()

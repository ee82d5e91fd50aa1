"""Referrals: one who brings, no loops, and one bonus for the first order that was paid for."""

import itertools
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.offers import set_offer
from tasks.referral_bonus import claim_referral_bonus
from tasks.referral_programs import list_referral_programs, set_referral_program
from tasks.referrals import attach_referral, get_referral_stats, list_referrals
from tasks.tenants import set_tenant
from tests.integration import shop, wallet
from tests.integration.shop import bought, order, pay, refund, said


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    """Who brings gets 50 coins, who is brought 20 calls: offers that are not for sale."""
    shop.open_shop()
    coins = [{"product_key": "COINS", "quantity": "50"}]
    shop.sell("thanks", price="0", active=False, items=coins)
    shop.sell("welcome", price="0", active=False, items=[{**shop.CALLS, "quantity": "20"}])
    set_referral_program(referrer_sku="thanks", referee_sku="welcome")
    for name in ("ann", "bob", "cyd"):
        set_tenant(tenant_id=name)


def attach(referee: str, referrer: str, *, day: float = 0, **rest: Any) -> Any:
    return attach_referral(
        tenant_id=referee, referrer_tenant_id=referrer, as_of=wallet.at(day), **rest
    )


def claim(referee: str = "bob", *, day: float = 5) -> Any:
    return claim_referral_bonus(tenant_id=referee, as_of=wallet.at(day))


def buy(referee: str = "bob", *, day: float = 1, key: str = "o") -> Any:
    return bought(key=key, day=day, tenant_id=referee)


def has(tenant_id: str, product_key: str) -> int:
    return int(wallet.balance(9, tenant_id=tenant_id, product_key=product_key)["balance"])


def test_a_referral_is_attached_once_and_told_to_who_brought(db: Engine) -> None:
    answer = attach("bob", "ann", metadata={"code": "ANN10"})

    assert answer == {
        "referral_id": answer["referral_id"],
        "referrer_tenant_id": "ann",
        "referee_tenant_id": "bob",
        "program_key": "default",
        "attached_at": "2026-03-01T12:00:00Z",
        "order_id": None,
        "claimed_at": None,
        "metadata": {"code": "ANN10"},
    }
    assert attach("bob", "ann", day=3) == answer
    (told,) = wallet.events(db)
    assert (told["type"], told["tenant_id"]) == ("billing.referral_attached", "ann")
    assert told["data"] == {
        "referral_id": answer["referral_id"],
        "referrer_tenant_id": "ann",
        "referee_tenant_id": "bob",
        "program_key": "default",
    }


def test_who_is_brought_may_be_new_and_who_brings_may_not(db: Engine) -> None:
    assert attach("newcomer", "ann")["referee_tenant_id"] == "newcomer"
    assert said(lambda: attach("another", "nobody")) == "tenant.unknown"
    assert wallet.rows(db, "SELECT count(*) FROM tenants WHERE tenant_id = 'another'") == [(0,)]


def test_nobody_brings_themselves_or_is_brought_twice(db: Engine) -> None:
    set_referral_program(program_key="other", referrer_sku="thanks")
    attach("bob", "ann")

    assert said(lambda: attach("ann", "ann")) == "referral.self"
    assert said(lambda: attach("bob", "cyd")) == "referral.already_attached"
    assert said(lambda: attach("bob", "ann", program_key="other")) == "referral.already_attached"
    assert said(lambda: attach("cyd", "ann", program_key="none")) == "referral_program.unknown"
    set_referral_program(referrer_sku="thanks", active=False)
    assert said(lambda: attach("cyd", "ann")) == "referral_program.inactive"
    assert attach("bob", "ann")["referrer_tenant_id"] == "ann"
    assert wallet.rows(db, "SELECT count(*) FROM referrals") == [(1,)]


@pytest.mark.parametrize("length", [2, 3, 7])
def test_a_loop_of_any_length_is_refused(db: Engine, length: int) -> None:
    names = [f"t{n}" for n in range(length)]
    set_tenant(tenant_id=names[0])
    for referrer, referee in itertools.pairwise(names):
        attach(referee, referrer)

    assert said(lambda: attach(names[0], names[-1])) == "referral.loop"
    assert wallet.rows(db, "SELECT count(*) FROM referrals") == [(length - 1,)]


@pytest.mark.parametrize("length", [2, 4, 6])
@pytest.mark.parametrize("turn", range(3))
def test_all_of_a_loop_at_once_leave_it_open(db: Engine, length: int, turn: int) -> None:
    """Each of them sees no loop; together they would close it."""
    names = [f"t{n}" for n in range(length)]
    for name in names:
        set_tenant(tenant_id=name)
    pairs = list(zip(names, [*names[1:], names[0]], strict=True))

    answers = shop.all_at_once(
        [lambda pair=pair: attach(*pair) for pair in pairs]  # type: ignore[misc]
    )

    assert answers.count("referral.loop") == 1
    assert wallet.rows(db, "SELECT count(*) FROM referrals") == [(length - 1,)]


def test_many_who_claim_to_have_brought_one_at_once_one_has(db: Engine) -> None:
    for n in range(6):
        set_tenant(tenant_id=f"t{n}")

    answers = shop.all_at_once(
        [lambda n=n: attach("newcomer", f"t{n}") for n in range(6)]  # type: ignore[misc]
    )

    assert answers.count("referral.already_attached") == 5
    assert len(wallet.events(db, "billing.referral_attached")) == 1


def test_the_first_paid_order_brings_both_their_bonus(db: Engine) -> None:
    referral = attach("bob", "ann")
    first = buy()
    buy(day=2, key="later")

    answer = claim()

    assert (has("ann", "COINS"), has("bob", "CALLS")) == (50, 220)
    assert (answer["claimed"], answer["order_id"]) == (True, first["order_id"])
    assert [one["product_key"] for one in answer["referrer_batches"]] == ["COINS"]
    assert [one["amount"] for one in answer["referee_batches"]] == ["20"]
    key = f"referral_bonus:{referral['referral_id']}:order:{first['order_id']}"
    (told,) = wallet.events(db, "billing.referral_bonus_granted")
    assert told["tenant_id"] == "ann"
    assert told["data"] == {
        "event": "referral_bonus_granted",
        "referrer_external_id": "ann",
        "referee_external_id": "bob",
        "order_id": first["order_id"],
        "idempotency_key": key,
    }
    causes = (
        "SELECT tenant_id, cause_type FROM ledger_entries WHERE cause_id = :key ORDER BY 1"
    ).replace(":key", f"'{key}'")
    assert wallet.rows(db, causes) == [
        ("ann", "billing.claim_referral_bonus"),
        ("bob", "billing.claim_referral_bonus"),
    ]
    wallet.assert_sound()


def test_claiming_again_gives_what_was_given_and_nothing_more(db: Engine) -> None:
    attach("bob", "ann")
    buy()
    first = claim()
    set_referral_program(referee_sku="pack")

    assert claim(day=90) == first
    assert (has("ann", "COINS"), has("bob", "CALLS")) == (50, 120)


def test_eight_claims_at_once_give_one_bonus(db: Engine) -> None:
    attach("bob", "ann")
    buy()

    answers = shop.all_at_once([claim] * 8)

    assert all(answer == answers[0] for answer in answers)
    assert (has("ann", "COINS"), has("bob", "CALLS")) == (50, 120)
    assert len(wallet.events(db, "billing.referral_bonus_granted")) == 1
    wallet.assert_sound()


def test_bonuses_both_ways_and_orders_at_once_do_not_wait_in_a_circle(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    items = [{"product_key": "COINS", "quantity": "1"}, {"product_key": "CALLS", "quantity": "1"}]
    shop.sell("both", price="0", active=False, items=items)
    set_referral_program(referrer_sku="both", referee_sku="both")
    for referee, referrer in (("bob", "ann"), ("ann", "cyd"), ("dan", "bob")):
        attach(referee, referrer)
        buy(referee, key=referee)
    made = [order("bundle", key=f"x-{n}", tenant_id=n, day=2) for n in ("ann", "bob", "dan")]

    answers = shop.all_at_once(
        [
            *(lambda one=one: claim(one) for one in ("bob", "ann", "dan")),
            *(lambda one=one: pay(one, one["order_id"], day=2) for one in made),
        ]
    )

    assert all(isinstance(answer, dict) for answer in answers), answers
    wallet.assert_sound()


def test_without_an_order_that_cost_money_there_is_no_bonus_yet(db: Engine) -> None:
    referral = attach("bob", "ann")
    no = {
        "claimed": False,
        "referral_id": referral["referral_id"],
        "reason": "no_paid_order",
    }

    assert claim() == no
    order("taste", key="free", tenant_id="bob", day=1)
    order("pack", key="unpaid", tenant_id="bob", day=1)
    assert claim() == no
    buy(day=2)
    assert claim()["claimed"] is True


def test_an_order_that_was_given_back_before_the_claim_does_not_count(db: Engine) -> None:
    attach("bob", "ann")
    refund(buy(), day=2)
    assert claim()["reason"] == "no_paid_order"

    again = buy(day=3, key="again")

    assert claim()["order_id"] == again["order_id"]


def test_who_had_paid_before_is_no_newcomer(db: Engine) -> None:
    refund(buy(day=0), day=0.5)
    attach("bob", "ann", day=1)
    buy(day=2, key="later")

    assert claim()["reason"] == "paid_before_referral"
    assert has("ann", "COINS") == 0


def test_a_refund_after_the_claim_leaves_the_bonus(db: Engine) -> None:
    attach("bob", "ann")
    paid = buy()
    first = claim()
    refund(paid, day=6)

    assert claim(day=7) == first
    assert (has("ann", "COINS"), has("bob", "CALLS")) == (50, 20)


def test_nobody_brought_nobody_gets_a_bonus(db: Engine) -> None:
    assert said(lambda: claim("ann")) == "referral.unknown"


def test_a_bonus_that_can_not_be_granted_to_one_is_granted_to_neither(db: Engine) -> None:
    attach("bob", "ann")
    buy()
    wallet.product("COINS", is_currency=True, active=False)

    assert said(claim) == "product.inactive"
    assert has("bob", "CALLS") == 100
    wallet.product("COINS", active=True)
    assert claim()["claimed"] is True


def test_a_programme_rewards_one_side_at_least_with_offers_that_there_are(db: Engine) -> None:
    assert said(lambda: set_referral_program(program_key="x")) == "referral_program.no_reward"
    assert said(lambda: set_referral_program(program_key="x", referee_sku="y")) == "offer.unknown"
    made = set_referral_program(program_key="x", referee_sku="welcome")
    assert set_referral_program(program_key="x", referee_sku="welcome") == made
    assert (made["referrer_sku"], made["version"]) == (None, 1)
    keys = [one["program_key"] for one in list_referral_programs()["programs"]]
    assert keys == ["default", "x"]
    attach("bob", "ann", program_key="x")
    buy()
    assert claim()["referrer_batches"] == []


def test_stats_count_who_was_brought_and_what_came_of_it(db: Engine) -> None:
    attach("bob", "ann")
    attach("cyd", "ann", day=1)
    attach("dan", "bob", day=2)
    buy()
    claim()

    stats = get_referral_stats(tenant_id="ann")
    assert (stats["referred"], stats["rewarded"], stats["pending"]) == (2, 1, 1)
    assert stats["brought_by"] is None
    brought: Any = get_referral_stats(tenant_id="bob")["brought_by"]
    assert brought["referrer_tenant_id"] == "ann"
    assert said(lambda: get_referral_stats(tenant_id="nobody")) == "tenant.unknown"


def test_referrals_are_listed_page_by_page(db: Engine) -> None:
    for n in range(5):
        attach(f"t{n}", "ann", day=n)
    attach("bob", "t0", day=9)

    def names(**wanted: Any) -> list[str]:
        return [one["referee_tenant_id"] for one in list_referrals(**wanted)["referrals"]]

    assert names() == ["bob", "t4", "t3", "t2", "t1", "t0"]
    first = list_referrals(referrer_tenant_id="ann", limit=2)
    rest = names(referrer_tenant_id="ann", limit=2, cursor=first["next_cursor"])
    assert rest == ["t2", "t1"]
    assert names(rewarded=True) == []
    assert len(names(rewarded=False)) == 6


def test_an_offer_that_is_not_for_sale_can_be_a_reward_and_is_not_ordered(db: Engine) -> None:
    assert said(lambda: order("thanks")) == "offer.inactive"
    set_offer(sku="thanks", active=True)
    assert order("thanks")["state"] == "paid"

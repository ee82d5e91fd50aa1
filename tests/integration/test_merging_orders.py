"""Orders, trials and referrals of a tenant that becomes part of another one are the other's."""

from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.erasure import erase_tenant
from tasks.merging import merge_customers
from tasks.order_list import list_orders
from tasks.referral_bonus import claim_referral_bonus
from tasks.referral_programs import set_referral_program
from tasks.referrals import attach_referral, get_referral_stats, list_referrals
from tasks.tenants import set_tenant
from tasks.trials import grant_trial
from tests.integration import shop, wallet
from tests.integration.billing_world import query


@pytest.fixture(autouse=True)
def opened(db: Engine) -> None:
    """A shop, and a programme that gives the one who brings somebody a pack."""
    shop.open_shop()
    shop.sell("trial", price="0", metadata={"is_trial": True})
    set_referral_program(program_key="default", referrer_sku="pack", as_of=wallet.at(0))
    for tenant_id in ("acme", "anon", "bolt", "cargo"):
        set_tenant(tenant_id=tenant_id, as_of=wallet.at(0))


def merge(source: str = "anon", target: str = "acme") -> Any:
    return merge_customers(
        source=source, target=target, idempotency_key=f"{source}>{target}", as_of=wallet.at(1)
    )


def bring(referrer: str, referee: str) -> None:
    attach_referral(tenant_id=referee, referrer_tenant_id=referrer, as_of=wallet.at(0))


def claim(referee: str) -> Any:
    return claim_referral_bonus(tenant_id=referee, as_of=wallet.at(2))


def brought() -> set[tuple[str, str]]:
    found: Any = list_referrals()
    return {(one["referrer_tenant_id"], one["referee_tenant_id"]) for one in found["referrals"]}


def test_an_order_goes_on_under_the_new_id_and_gives_back_there() -> None:
    paid = shop.bought("pack", tenant_id="anon", key="a")
    waiting = shop.order("bundle", tenant_id="anon", key="b")
    trial: Any = {"tenant_id": "anon", "sku": "trial", "as_of": wallet.at(0)}
    identities: Any = [{"provider": "mail", "external_id": "a@b.example"}]
    grant_trial(**trial, identities=identities)

    moved = merge()["moved"]

    assert (moved["orders"], moved["trials"]) == (2, 1)
    found: Any = list_orders(tenant_id="acme")
    assert {one["order_id"] for one in found["orders"]} == {paid["order_id"], waiting["order_id"]}
    assert shop.pay(waiting, "later", day=2)["state"] == "paid"
    assert shop.refund(paid, day=2)["refundable_minor"] == 1000
    again: Any = grant_trial(**{**trial, "tenant_id": "acme"}, identities=identities)
    assert again["granted"] is True
    assert query("SELECT DISTINCT tenant_id FROM credit_batches") == [("acme",)]
    wallet.assert_sound()


def test_who_was_brought_and_who_brought_move_and_the_bonus_follows() -> None:
    bring("anon", "bolt")
    bring("cargo", "anon")
    shop.bought("pack", tenant_id="bolt", key="b", day=0.5)

    merge()

    assert brought() == {("acme", "bolt"), ("cargo", "acme")}
    given = claim("bolt")
    assert (given["claimed"], given["referrer_tenant_id"]) == (True, "acme")
    assert get_referral_stats(tenant_id="anon")["rewarded"] == 1
    wallet.assert_sound()


def test_two_who_were_brought_by_one_or_by_two_keep_the_targets_referral() -> None:
    bring("bolt", "acme")
    bring("bolt", "anon")
    merge()
    assert brought() == {("bolt", "acme"), ("bolt", "anon")}

    bring("acme", "cargo")
    set_tenant(tenant_id="duo", as_of=wallet.at(0))
    bring("bolt", "duo")
    merge("duo", "cargo")
    assert ("acme", "cargo") in brought()


@pytest.mark.parametrize("referrer", ["acme", "anon"])
def test_one_who_brought_the_other_gets_nothing_for_itself(referrer: str) -> None:
    referee = "anon" if referrer == "acme" else "acme"
    bring(referrer, referee)
    shop.bought("pack", tenant_id="acme", key="x", day=0.5)

    merge()

    assert brought() == {(referrer, referee)}
    if referee == "acme":
        assert claim("acme")["reason"] == "one_tenant"
    assert query("SELECT count(*) FROM credit_batches") == [(1,)]


def test_a_merge_closes_no_loop() -> None:
    bring("anon", "bolt")
    bring("bolt", "cargo")
    bring("cargo", "acme")

    merge()

    assert brought() == {("anon", "bolt"), ("bolt", "cargo"), ("cargo", "acme")}
    shop.bought("pack", tenant_id="bolt", key="b", day=1.5)
    assert claim("bolt")["referrer_tenant_id"] == "anon"
    assert query("SELECT tenant_id FROM credit_batches WHERE source = 'referral'") == [("acme",)]


def test_an_alias_may_be_named_as_who_brings() -> None:
    merge()

    bring("anon", "bolt")

    assert brought() == {("acme", "bolt")}
    with pytest.raises(Exception, match="can not bring itself"):
        bring("anon", "acme")


def test_an_order_that_waits_for_its_payment_is_not_settled_and_what_it_says_is_forgotten() -> None:
    order = shop.order("pack", tenant_id="acme", metadata={"who": "Ada"})
    erase: Any = {"tenant_id": "acme", "actor": "dpo", "reason": "asked", "as_of": wallet.at(3)}

    with pytest.raises(Exception, match=f"order {order['order_id']} waits for its payment"):
        erase_tenant(**erase, idempotency_key="e")
    shop.cancel(order)
    answers = "SELECT count(*) FROM idempotency_keys WHERE answer::text LIKE '%Ada%'"
    assert query(answers) == [(2,)]
    erase_tenant(**erase, idempotency_key="f")

    assert query("SELECT metadata, state FROM orders") == [({}, "cancelled")]
    # Kept answers to calls, too.
    assert query(answers) == [(0,)]
    assert shop.cancel(order)["order_id"] == order["order_id"]

"""Exchange: a currency product for an offer, both sides or neither."""

from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules import offer as rules
from models.store import credit
from tasks.exchange import exchange
from tasks.offer_grants import InactiveOffer
from tasks.offers import set_offer
from tests.integration import wallet
from tests.integration.test_credit_races import at_once


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    """A pack of calls for 40 coins."""
    wallet.product()
    wallet.product("COINS", is_currency=True)
    sell("pack")


def sell(sku: str, **changed: Any) -> None:
    items = [{"product_key": "CALLS", "quantity": "500", "period": "days", "value": 30}]
    given = {"name": sku, "price": "40", "currency": "COINS", "items": items}
    set_offer(sku=sku, **{**given, **changed})


def coins(amount: Any, key: str, **rest: Any) -> Any:
    return wallet.grant(amount, key, product_key="COINS", **rest)


def swap(key: str, *, day: float = 1, **rest: Any) -> Any:
    given: dict[str, Any] = {"tenant_id": "acme", "sku": "pack"}
    return exchange(**{**given, **rest}, idempotency_key=key, as_of=wallet.at(day))


def left(product_key: str = "COINS", day: float = 1) -> str:
    found: str = wallet.balance(day, product_key=product_key)["balance"]
    return found


def test_the_oldest_coins_pay_and_the_offer_is_granted(db: Engine) -> None:
    coins(30, "old", day=0)
    coins(100, "new", day=0.5)

    answer = swap("x", quantity=2, metadata={"cart": 9})

    assert answer == {
        "exchanged": True,
        "sku": "PACK",
        "quantity": 2,
        "currency": "COINS",
        "price": "80",
        "balance": "50",
        "batches": [
            {
                "batch_id": answer["batches"][0]["batch_id"],
                "product_key": "CALLS",
                "amount": "1000",
                "repaid": "0",
                "balance": "1000",
                "expires_at": "2026-04-01T12:00:00Z",
            }
        ],
    }
    entries = (
        "SELECT product_key, direction, action, amount, cause_type, cause_id, metadata "
        "FROM ledger_entries WHERE cause_id = 'x' ORDER BY id"
    )
    why = ("billing.exchange", "x", {"cart": 9})
    assert wallet.rows(db, entries) == [
        ("COINS", "DEBIT", "exchange", 30, *why),
        ("COINS", "DEBIT", "exchange", 50, *why),
        ("CALLS", "CREDIT", "grant", 1000, *why),
    ]
    assert wallet.rows(db, "SELECT source FROM credit_batches WHERE product_key = 'CALLS'") == [
        ("exchange",)
    ]
    (told,) = wallet.events(db, "billing.credits_exchanged")
    assert (told["data"]["amount"], told["data"]["balance"]) == ("80", "50")
    assert wallet.events(db, "billing.quota_consumed") == []
    wallet.assert_sound()


@pytest.mark.parametrize(
    ("granted", "reason"), [(0, "quota_exhausted"), ("39.999", "insufficient_funds")]
)
def test_too_little_is_an_answer_that_changes_nothing(
    db: Engine, granted: Any, reason: str
) -> None:
    if granted:
        coins(granted, "g")
    before = wallet.rows(db, "SELECT tenant_id, product_key FROM credit_balances")

    answer = swap("x")

    assert answer == {
        "exchanged": False,
        "reason": reason,
        "currency": "COINS",
        "price": "40",
        "available": str(granted),
    }
    assert wallet.rows(db, "SELECT tenant_id, product_key FROM credit_balances") == before
    assert wallet.rows(db, "SELECT count(*) FROM tenants") == [(len(before),)]
    coins(100, "more")
    assert swap("x") == answer
    assert swap("y")["exchanged"] is True


def test_the_last_coins_are_told_to_be_the_last(db: Engine) -> None:
    coins(80, "g")
    swap("a")
    assert wallet.events(db, "billing.product_deactivated") == []
    swap("b")

    (told,) = wallet.events(db, "billing.product_deactivated")
    assert told["data"] == {"tenant_id": "acme", "product_key": "COINS", "reason": "exhausted"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"currency": "EUR"}, r"priced in money \(40.00 EUR\)"),
        ({"price": "0"}, "costs 0 COINS"),
        ({"price": "1.5"}, "costs 1.5 COINS"),
    ],
)
def test_only_a_whole_price_in_a_currency_product_can_be_paid(
    db: Engine, changed: dict[str, Any], said: str
) -> None:
    sell("odd", **changed)
    coins(100, "g")

    with pytest.raises(rules.NotExchangeable, match=said):
        swap("x", sku="odd", quantity=2)
    assert left() == "100"


def test_what_is_not_sold_or_not_granted_costs_nothing(db: Engine) -> None:
    coins(100, "g")
    sell("old", active=False)
    with pytest.raises(InactiveOffer):
        swap("a", sku="old")
    wallet.product(active=False)
    with pytest.raises(credit.InactiveProduct):
        swap("b")
    wallet.product("COINS", is_currency=False)
    with pytest.raises(rules.NotExchangeable, match="no currency any more"):
        swap("c")

    assert left() == "100"
    assert wallet.rows(db, "SELECT count(*) FROM ledger_entries") == [(1,)]


def test_a_hold_whose_time_is_over_does_not_keep_coins_back(db: Engine) -> None:
    coins(60, "g")
    wallet.hold(50, product_key="COINS", days=0.5)

    assert swap("early", day=0.4)["available"] == "10"
    assert swap("late", day=0.6)["exchanged"] is True
    assert len(wallet.events(db, "billing.reservation_released")) == 1
    assert swap("again", day=0.6)["available"] == "20"
    wallet.assert_sound()


def test_a_no_leaves_a_hold_whose_time_is_over_to_the_sweep(db: Engine) -> None:
    coins(30, "g")
    wallet.hold(30, product_key="COINS", days=0.5)

    assert swap("x", day=0.6)["available"] == "30"
    assert wallet.events(db, "billing.reservation_released") == []
    wallet.sweep_holds(0.7)
    assert len(wallet.events(db, "billing.reservation_released")) == 1


def test_coins_can_be_changed_for_more_coins(db: Engine) -> None:
    sell("bonus", items=[{"product_key": "COINS", "quantity": "60"}])
    coins(40, "g")

    assert swap("x", sku="bonus")["batches"][0]["balance"] == "60"
    wallet.assert_sound()


def test_eight_exchanges_with_one_key_pay_once(db: Engine) -> None:
    coins(1000, "g")

    answers = at_once(8, lambda _: swap("same"))

    assert all(answer == answers[0] for answer in answers)
    assert (left(), left("CALLS")) == ("960", "500")


def test_exchanges_and_spending_at_once_are_exact_to_the_unit(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packs one way, coins the other way, and somebody who spends both: no lock in a circle."""
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    wallet.product("CALLS", is_currency=True)
    sell("back", price="5", currency="CALLS", items=[{"product_key": "COINS", "quantity": "1"}])
    coins(600, "g")
    wallet.grant(600, "c")

    def work(thread: int) -> list[Any]:
        if thread < 3:
            return [swap(f"{thread}-{n}") for n in range(10)]
        if thread < 6:
            return [swap(f"{thread}-{n}", sku="back") for n in range(10)]
        key = ("COINS", "CALLS")[thread % 2]
        return [wallet.consume(7, f"{thread}-{n}", day=1, product_key=key) for n in range(10)]

    answers = [answer for found in at_once(8, work) for answer in found]

    packs = sum(a.get("exchanged", False) for a in answers if a.get("sku") == "PACK")
    backs = sum(a.get("exchanged", False) for a in answers if a.get("sku") == "BACK")
    spent = [a for a in answers if a.get("consumed")]
    of_coins = wallet.rows(
        db, "SELECT count(*) FROM ledger_entries WHERE action = 'consume' AND product_key = 'COINS'"
    )[0][0]
    assert packs
    assert backs == 30
    assert int(left()) == 600 - 40 * packs + backs - 7 * of_coins
    assert int(left("CALLS")) == 600 + 500 * packs - 5 * backs - 7 * (len(spent) - of_coins)
    assert len(wallet.events(db, "billing.credits_exchanged")) == packs + backs
    wallet.assert_sound()

"""Offers: made, changed, listed, granted once, all items or none."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules import offer as rules
from models.rules.refusal import Refusal
from models.store import credit, inbox, product
from models.store import offer as store
from tasks import contract, paging
from tasks.catalog import get_product, list_products, set_product
from tasks.offer_grants import grant_offer
from tasks.offers import get_offer, list_offers, set_offer
from tasks.tenants import set_tenant
from tests.integration import wallet
from tests.integration.test_credit_races import at_once

CALLS: Any = {"product_key": "calls", "quantity": "100", "period": "Months", "value": 1}
SEATS: Any = {"product_key": "SEATS", "quantity": "5", "period": "forever"}


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    """Products to sell, and one to pay with."""
    wallet.product()
    wallet.product("SEATS")
    wallet.product("COINS", is_currency=True)


def make(sku: str = "starter", **changed: Any) -> Any:
    given = {"name": "Starter", "price": "12.30", "currency": "eur", "items": [CALLS, SEATS]}
    return set_offer(sku=sku, as_of=wallet.START, **{**given, **changed})


def grant(key: str, *, day: float = 0, **rest: Any) -> Any:
    given = {"tenant_id": "acme", "sku": "starter", "source": "shop"}
    return grant_offer(**{**given, **rest}, idempotency_key=key, as_of=wallet.at(day))


def test_an_offer_is_stored_as_it_is_said_with_keys_in_capitals(db: Engine) -> None:
    answer = make()

    assert answer == {
        "sku": "STARTER",
        "name": "Starter",
        "price": "12.30",
        "currency": "EUR",
        "currency_kind": "money",
        "active": True,
        "items": [
            {"product_key": "CALLS", "quantity": "100", "period": "months", "value": 1},
            {"product_key": "SEATS", "quantity": "5", "period": "forever", "value": None},
        ],
        "metadata": {},
        "version": 1,
    }
    assert get_offer(sku=" Starter ") == answer
    assert wallet.rows(db, "SELECT key FROM catalog_keys WHERE kind = 'offer'") == [("STARTER",)]


def test_what_is_not_given_stays_and_the_same_again_changes_nothing(db: Engine) -> None:
    make(metadata={"a": 1})

    same = make()
    changed = set_offer(sku="STARTER", price="9", metadata={"b": 2})
    other_items = set_offer(sku="STARTER", items=[SEATS])

    assert (same["version"], changed["version"], other_items["version"]) == (1, 2, 3)
    assert (changed["price"], changed["currency"]) == ("9.00", "EUR")
    assert changed["items"] == same["items"]
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert [item["product_key"] for item in other_items["items"]] == ["SEATS"]


def test_a_price_in_a_currency_product(db: Engine) -> None:
    answer = make(price="40", currency="coins")

    assert (answer["price"], answer["currency"], answer["currency_kind"]) == (
        "40",
        "COINS",
        "product",
    )


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"price": "1.001"}, "offer.invalid_price", "at most 2 decimals"),
        ({"price": "1.5", "currency": "JPY"}, "offer.invalid_price", "at most 0 decimals"),
        ({"currency": "GOLD"}, "offer.unknown_currency", "'GOLD'"),
        ({"currency": "SEATS"}, "offer.unknown_currency", "is_currency"),
        ({"items": [{**CALLS, "product_key": "X"}]}, "product.unknown", "items.0.product_key 'X'"),
        ({"items": [{**CALLS, "value": None}]}, "offer.invalid_item", "from 1 to 1200"),
        ({"items": [{**CALLS, "value": 1201}]}, "offer.invalid_item", "valid for 1201 months"),
        ({"items": [{**SEATS, "value": 2}]}, "offer.invalid_item", "forever"),
        ({"sku": "calls"}, "catalog.key_taken", "'CALLS'"),
        ({"items": None}, "offer.incomplete", "needs items"),
        ({"price": None, "currency": None}, "offer.incomplete", "price and currency"),
    ],
)
def test_an_offer_that_can_not_be_sold_is_refused_by_name(
    db: Engine, changed: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        make(**changed)

    assert refused.value.code == code
    assert wallet.rows(db, "SELECT count(*) FROM offers") == [(0,)]
    assert wallet.rows(db, "SELECT count(*) FROM catalog_keys WHERE kind = 'offer'") == [(0,)]


def test_a_product_can_not_take_an_offers_key_nor_the_name_of_money(db: Engine) -> None:
    make()

    with pytest.raises(product.CatalogKeyTaken, match="STARTER"):
        wallet.product("starter")
    with pytest.raises(product.NotACurrency, match="'USD'"):
        wallet.product("usd", is_currency=True)


def test_only_what_is_counted_can_be_a_currency(db: Engine) -> None:
    with pytest.raises(product.NotACurrency, match="'unlimited'"):
        wallet.product("SKY", "unlimited", is_currency=True)
    wallet.product("SKY", "unlimited")
    with pytest.raises(product.NotACurrency):
        wallet.product("SKY", "unlimited", is_currency=True)


def test_offers_are_listed_by_sku_page_by_page(db: Engine) -> None:
    for sku in ("c", "a", "d", "b"):
        make(sku, active=sku != "d")

    first = list_offers(limit=2)
    make("aa")
    second = list_offers(limit=2, cursor=first["next_cursor"])

    assert [one["sku"] for one in first["offers"]] == ["A", "B"]
    assert [one["sku"] for one in second["offers"]] == ["C", "D"]
    assert second["next_cursor"] is None
    with pytest.raises(paging.InvalidCursor):
        list_offers(limit=2, active=True, cursor=first["next_cursor"])
    with pytest.raises(paging.InvalidCursor):
        list_offers(cursor="nonsense")


def test_offers_are_found_by_what_they_are(db: Engine) -> None:
    make("a", active=False)
    make("b", price="40", currency="COINS", items=[SEATS])
    make("c")

    def skus(**wanted: Any) -> list[str]:
        return [one["sku"] for one in list_offers(**wanted)["offers"]]

    assert skus(active=True) == ["B", "C"]
    assert skus(currency="coins") == ["B"]
    assert skus(currency="EUR", active=False) == ["A"]
    assert skus(product_key="calls") == ["A", "C"]
    assert len(list_offers(product_key="CALLS")["offers"][0]["items"]) == 2


def test_products_are_listed_and_found(db: Engine) -> None:
    set_product(product_key="old", name="Old", type="period", active=False)

    def keys(**wanted: Any) -> list[str]:
        return [one["product_key"] for one in list_products(**wanted)["products"]]

    first = list_products(limit=3)
    assert [one["product_key"] for one in first["products"]] == ["CALLS", "COINS", "OLD"]
    assert keys(limit=3, cursor=first["next_cursor"]) == ["SEATS"]
    assert keys(active=False) == keys(type="period") == ["OLD"]
    assert keys(is_currency=True) == ["COINS"]
    assert get_product(product_key="old")["name"] == "Old"
    with pytest.raises(product.UnknownProduct):
        get_product(product_key="none")


def test_a_grant_is_one_batch_one_entry_and_one_event_an_item(db: Engine) -> None:
    make()

    answer = grant("g", quantity=3, metadata={"order": 7})

    calls, seats = answer["batches"]
    assert calls == {
        "batch_id": calls["batch_id"],
        "product_key": "CALLS",
        "amount": "300",
        "repaid": "0",
        "balance": "300",
        "expires_at": "2026-04-01T12:00:00Z",
    }
    assert (seats["product_key"], seats["amount"], seats["expires_at"]) == ("SEATS", "15", None)
    entries = (
        "SELECT product_key, direction, action, amount, cause_type, cause_id, metadata "
        "FROM ledger_entries ORDER BY product_key"
    )
    why = ("billing.grant_offer", "g", {"order": 7})
    assert wallet.rows(db, entries) == [
        ("CALLS", "CREDIT", "grant", Decimal(300), *why),
        ("SEATS", "CREDIT", "grant", Decimal(15), *why),
    ]
    assert wallet.rows(db, "SELECT DISTINCT source, metadata FROM credit_batches") == [
        ("shop", {"order": 7})
    ]
    told = wallet.events(db, "billing.credits_granted")
    assert sorted((one["data"]["product_key"], one["data"]["amount"]) for one in told) == [
        ("CALLS", "300"),
        ("SEATS", "15"),
    ]
    wallet.assert_sound()


def test_an_offer_pays_what_is_owed_first(db: Engine) -> None:
    make()
    wallet.deduct(30, "after")

    calls, seats = grant("g")["batches"]

    assert (calls["repaid"], calls["balance"]) == ("30", "70")
    assert (seats["repaid"], seats["balance"]) == ("0", "5")
    told = wallet.events(db, "billing.credits_granted")
    assert {one["data"]["product_key"]: one["data"]["repaid"] for one in told} == {
        "CALLS": "30",
        "SEATS": "0",
    }
    wallet.assert_sound()


@pytest.mark.parametrize(
    ("zone", "granted_at", "expires_at"),
    [
        ("UTC", "2026-01-31T12:00:00Z", "2026-02-28T12:00:00Z"),
        # It is 1 March in Tokyo already, so the month ends on 1 April there.
        ("Asia/Tokyo", "2026-02-28T23:00:00Z", "2026-03-31T23:00:00Z"),
        # Noon in New York is an hour earlier in UTC once the clocks have changed.
        ("America/New_York", "2026-02-20T17:00:00Z", "2026-03-20T16:00:00Z"),
    ],
)
def test_a_month_is_a_month_of_the_tenants_calendar(
    db: Engine, zone: str, granted_at: str, expires_at: str
) -> None:
    make()
    set_tenant(tenant_id="acme", timezone=zone)

    answer = grant_offer(
        tenant_id="acme",
        sku="STARTER",
        source="shop",
        idempotency_key="g",
        as_of=dt.datetime.fromisoformat(granted_at),
    )

    assert answer["batches"][0]["expires_at"] == expires_at


def test_one_item_that_can_not_be_granted_lets_nothing_be_granted(db: Engine) -> None:
    make()
    wallet.product("SEATS", active=False)

    with pytest.raises(credit.InactiveProduct, match="SEATS"):
        grant("g")

    for table in ("tenants", "credit_balances", "ledger_entries", "idempotency_keys"):
        assert wallet.rows(db, f"TABLE {table}") == []


def test_an_offer_that_is_not_sold_or_too_many_of_one_are_refused(db: Engine) -> None:
    make("old", active=False)
    make("big", items=[{**CALLS, "quantity": "999999999999999999"}])

    for sku, quantity, refusal in (
        ("none", 1, store.UnknownOffer),
        ("old", 1, None),
        ("big", 2, rules.TooMuch),
    ):
        with pytest.raises(refusal or Refusal, match=sku.upper() if sku != "big" else "10.18"):
            grant("g", sku=sku, quantity=quantity)
    with pytest.raises(contract.InvalidMessage, match="quantity"):
        grant("g", quantity=0)
    assert grant("g", sku="big")["batches"][0]["amount"] == "999999999999999999"


def test_eight_grants_with_one_key_at_once_are_one(db: Engine) -> None:
    make()

    answers = at_once(8, lambda _: grant("same", tenant_id="new"))

    assert all(answer == answers[0] for answer in answers)
    assert wallet.rows(db, "SELECT count(*) FROM credit_batches") == [(2,)]
    assert len(wallet.events(db, "billing.credits_granted")) == 2
    with pytest.raises(inbox.IdempotencyConflict):
        grant("same", tenant_id="new", quantity=2)


def test_offers_whose_items_come_in_opposite_orders_do_not_deadlock(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    make("one", items=[CALLS, SEATS])
    make("two", items=[SEATS, CALLS])

    def grant_many(thread: int) -> int:
        sku = ("one", "two")[thread % 2]
        # Each tenant is new to all of them at once: also its balances are made here.
        batches = [
            grant(f"{thread}", tenant_id=f"t{number}", sku=sku)["batches"] for number in range(20)
        ]
        return sum(len(found) for found in batches)

    assert sum(at_once(8, grant_many)) == 8 * 20 * 2
    wallet.assert_sound()


def test_an_offer_that_changes_is_granted_as_it_was_or_as_it_is_never_half(db: Engine) -> None:
    small = [{**CALLS, "quantity": "1"}, {**SEATS, "quantity": "1"}]
    large = [{**CALLS, "quantity": "2"}, {**SEATS, "quantity": "2"}]
    make(items=small)

    def work(thread: int) -> list[set[str]]:
        if thread == 0:
            for number in range(30):
                set_offer(sku="starter", items=(small, large)[number % 2])
            return []
        answers = [grant(f"{thread}-{number}", tenant_id=f"t{thread}") for number in range(15)]
        return [{batch["amount"] for batch in answer["batches"]} for answer in answers]

    amounts = [seen for found in at_once(4, work) for seen in found]

    assert len(amounts) == 45
    assert all(len(seen) == 1 for seen in amounts)


def test_two_calls_that_make_the_same_offer_leave_one(db: Engine) -> None:
    answers = at_once(6, lambda number: make(price=str(number)))

    assert sorted(answer["version"] for answer in answers) == [1, 2, 3, 4, 5, 6]
    assert wallet.rows(db, "SELECT count(*) FROM offer_items") == [(2,)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sku", ""),
        ("name", "x" * 201),
        ("price", "-1"),
        ("price", "NaN"),
        ("items", []),
        ("items", [{**CALLS, "quantity": 0}]),
        ("items", [{**CALLS, "period": "weeks"}]),
        ("items", [{**CALLS, "colour": "red"}]),
        ("items", [SEATS] * 101),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(db: Engine, field: str, value: object) -> None:
    with pytest.raises(contract.InvalidMessage, match=field):
        make(**{field: value})

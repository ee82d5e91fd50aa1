"""Orders: the catalogue's price, one payment, one grant, and nothing but the life they have."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules.states import ORDER, OrderState
from tasks import contract
from tasks.order_list import get_order, list_orders
from tasks.tenants import set_tenant
from tests.integration import shop, wallet
from tests.integration.shop import bought, cancel, order, pay, refund, said

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    shop.open_shop()


def untouched(db: Engine) -> list[tuple[Any, ...]]:
    """Everything an order may change."""
    tables = ("orders", "order_items", "order_grants", "order_payments", "credit_batches",
              "ledger_entries", "outbox_messages", "idempotency_keys")  # fmt: skip
    return [(table, row) for table in tables for row in wallet.rows(db, f"TABLE {table}")]


def test_an_order_has_the_catalogues_price_and_waits_for_its_payment(db: Engine) -> None:
    made = order(("Pack", 3), "bundle", metadata={"cart": 9})

    assert (made["state"], made["currency"], made["total_minor"]) == ("pending", "EUR", 3999)
    assert [
        (line["sku"], line["quantity"], line["unit_price_minor"], line["amount_minor"])
        for line in made["items"]
    ] == [("PACK", 3, 1000, 3000), ("BUNDLE", 1, 999, 999)]
    assert [
        [(one["product_key"], one["amount"], one["batch_id"]) for one in line["grants"]]
        for line in made["items"]
    ] == [[("CALLS", "300", None)], [("CALLS", "100", None), ("COINS", "7", None)]]
    assert made["metadata"] == {"cart": 9}
    assert wallet.rows(db, "SELECT count(*) FROM credit_batches") == [(0,)]
    assert wallet.events(db) == []
    assert get_order(order_id=made["order_id"]) == made


def test_a_payment_grants_each_item_with_the_order_as_cause(db: Engine) -> None:
    paid = pay(order(("pack", 2), "bundle", metadata={"cart": 9}), day=1)

    assert (paid["state"], paid["paid_at"]) == ("paid", "2026-03-02T12:00:00Z")
    assert (paid["payment_method"], paid["payment_id"]) == ("stripe", "pay-1")
    granted = [one["batch_id"] for line in paid["items"] for one in line["grants"]]
    why = ("grant", "order", paid["order_id"], {"cart": 9})
    entries = (
        "SELECT batch_id::text, amount, action, cause_type, cause_id, metadata "
        "FROM ledger_entries ORDER BY id"
    )
    assert wallet.rows(db, entries) == [
        (granted[0], 200, *why),
        (granted[1], 100, *why),
        (granted[2], 7, *why),
    ]
    assert wallet.rows(
        db, "SELECT DISTINCT source, product_key, expires_at::text FROM credit_batches ORDER BY 2"
    ) == [("order", "CALLS", "2026-04-01 12:00:00+00"), ("order", "COINS", None)]
    told = [event["type"] for event in wallet.events(db)]
    assert sorted(told) == ["billing.credits_granted"] * 3 + ["billing.order_confirmed"]
    (confirmed,) = wallet.events(db, "billing.order_confirmed")
    assert confirmed["data"] == {
        "tenant_id": "acme",
        "order_id": paid["order_id"],
        "currency": "EUR",
        "total_minor": 2999,
        "skus": ["PACK", "BUNDLE"],
        "payment_method": "stripe",
        "payment_id": "pay-1",
    }
    wallet.assert_sound()


def test_what_was_ordered_is_what_is_granted_whatever_became_of_the_offer(db: Engine) -> None:
    made = order()
    shop.sell("pack", price="99", active=False, items=[{**shop.CALLS, "quantity": "1"}])

    paid = pay(made, amount="10.00", currency="eur")

    assert (paid["total_minor"], wallet.balance()["balance"]) == (1000, "100")
    wallet.assert_sound()


def test_validity_counts_from_the_payment_by_the_tenants_own_clock(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    shop.sell("month", items=[{**shop.CALLS, "period": "months", "value": 1}])
    made = order("month", day=-20)

    pay(made, day=-1 / 6)  # 08:00 in London on 1 March, 17:00 in Tokyo

    assert wallet.rows(db, "SELECT expires_at::text FROM credit_batches") == [
        ("2026-04-01 08:00:00+00",)
    ]


def test_a_free_order_is_paid_and_granted_at_once_and_needs_no_payment(db: Engine) -> None:
    made = order(("taste", 2))

    assert (made["state"], made["total_minor"], made["payment_id"]) == ("paid", 0, None)
    assert wallet.balance()["balance"] == "200"
    (told,) = wallet.events(db, "billing.order_confirmed")
    assert (told["data"]["total_minor"], told["data"]["payment_id"]) == (0, None)
    assert said(lambda: pay(made)) == "order.already_paid"
    assert order(("taste", 2)) == made
    assert wallet.balance()["balance"] == "200"


def test_what_costs_nothing_with_something_that_does_waits_for_the_payment(db: Engine) -> None:
    assert order("taste", "pack")["state"] == "pending"


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([], "order.empty"),
        ([{"sku": "pack", "quantity": 0}], "order.invalid_quantity"),
        ([{"sku": "pack", "quantity": -1}], "order.invalid_quantity"),
        ([{"sku": "pack", "quantity": 0.5}], "order.invalid_quantity"),
        ([{"sku": "pack", "quantity": 1_000_001}], "message.invalid"),
        ([{"sku": "pack", "price": "0.01"}], "order.price_given"),
        ([{"sku": "pack", "unit_price_minor": 1000}], "order.price_given"),
        ([{"sku": "pack"}, {"sku": "dollars"}], "order.mixed_currencies"),
        ([{"sku": "pack"}, {"sku": "for_coins"}], "order.not_in_money"),
        ([{"sku": "for_coins"}, {"sku": "pack"}], "order.not_in_money"),
        ([{"sku": "nothing"}], "offer.unknown"),
        ([{"sku": "old"}], "offer.inactive"),
        ([{"sku": "dear", "quantity": 1_000}], "order.too_large"),
        ([{"sku": "huge", "quantity": 2}], "offer.too_much"),
        ([{"sku": "trial"}], "order.trial"),
        ([{"sku": "taste"}, {"sku": "gone"}], "product.inactive"),
    ],
)
def test_what_can_not_be_ordered_is_refused_by_name_and_leaves_nothing(
    db: Engine, items: list[dict[str, Any]], code: str
) -> None:
    wallet.product("AWAY", active=False)
    shop.sell("dollars", currency="USD")
    shop.sell("for_coins", currency="COINS")
    shop.sell("old", active=False)
    shop.sell("dear", price="9999999999999999")
    shop.sell("huge", items=[{"product_key": "CALLS", "quantity": "999999999999999999"}])
    shop.sell("trial", price="0", metadata={"is_trial": True})
    shop.sell("gone", price="0", items=[{"product_key": "AWAY", "quantity": "1"}])
    before = untouched(db)

    assert said(lambda: order(items=items)) == code

    assert untouched(db) == before
    assert wallet.rows(db, "SELECT count(*) FROM tenants") == [(0,)]


def test_a_trial_that_costs_money_is_ordered_like_anything(db: Engine) -> None:
    shop.sell("trial", price="1", metadata={"is_trial": True})

    assert bought("trial")["state"] == "paid"


def test_the_published_schema_says_what_is_refused_by_name() -> None:
    schema = contract.REGISTRY["billing.create_order"].model.model_json_schema()

    assert schema["properties"]["items"]["minItems"] == 1
    (item,) = (one for one in schema["$defs"].values() if "sku" in one["properties"])
    assert item["properties"]["quantity"]["minimum"] == 1
    assert item["additionalProperties"] is False


@pytest.mark.parametrize(
    ("paid", "field"),
    [
        ({"amount": "9.99"}, "amount"),
        ({"amount": "10.01"}, "amount"),
        ({"amount": "10", "currency": "USD"}, "currency"),
        ({"currency": "USD"}, "currency"),
    ],
)
def test_a_payment_of_another_amount_or_currency_confirms_nothing(
    db: Engine, paid: dict[str, str], field: str
) -> None:
    made = order()
    before = untouched(db)

    assert said(lambda: pay(made, **paid)) == "order.amount_mismatch"

    assert untouched(db) == before
    assert pay(made, amount="10.0000", currency="EUR")["state"] == "paid"


def test_the_same_payment_again_is_the_same_answer_and_grants_nothing(db: Engine) -> None:
    made = order()
    first = pay(made)
    before = untouched(db)

    assert pay(made, day=3) == first
    assert untouched(db) == before


def test_another_payment_of_a_paid_order_is_a_conflict(db: Engine) -> None:
    made = order()
    pay(made)
    before = untouched(db)

    assert said(lambda: pay(made, "pay-2")) == "order.already_paid"
    assert said(lambda: pay(made, payment_method="paypal")) == "order.already_paid"
    assert untouched(db) == before


def test_one_payment_confirms_one_order(db: Engine) -> None:
    pay(order(key="a"))
    other = order(key="b")
    before = untouched(db)

    assert said(lambda: pay(other)) == "order.payment_conflict"
    assert untouched(db) == before
    assert pay(other, payment_method="paypal")["state"] == "paid"


def test_a_refunded_order_can_not_be_confirmed_again_by_any_payment(db: Engine) -> None:
    paid = bought()
    refund(paid)
    before = untouched(db)

    assert said(lambda: pay(paid, "pay-o")) == "order.already_refunded"
    assert said(lambda: pay(paid, "pay-2")) == "order.already_refunded"
    assert untouched(db) == before
    assert wallet.balance()["balance"] == "0"


def test_cancelling_keeps_why_and_tells_nobody_but_that(db: Engine) -> None:
    made = order()

    gone = cancel(made, reason="changed their mind", actor="ann", day=1)

    assert (gone["state"], gone["cancelled_at"]) == ("cancelled", "2026-03-02T12:00:00Z")
    assert (gone["reason"], gone["actor"]) == ("changed their mind", "ann")
    (told,) = wallet.events(db)
    assert told["type"] == "billing.order_cancelled"
    assert told["data"] == {
        "tenant_id": "acme",
        "order_id": made["order_id"],
        "currency": "EUR",
        "total_minor": 1000,
    }
    assert cancel(made, reason="changed their mind", actor="ann", day=1) == gone
    assert said(lambda: cancel(made, "another")) == "order.already_cancelled"


EVENTS: dict[str, Callable[[Any], Any]] = {
    "pay": lambda made: pay(made, "pay-x"),
    "cancel": lambda made: cancel(made, "again"),
    "refund": lambda made: refund(made, "again"),
}

REACHED: dict[OrderState, Callable[[Any], Any]] = {
    OrderState.pending: lambda made: made,
    OrderState.paid: pay,
    OrderState.refunded: lambda made: refund(pay(made)),
    OrderState.cancelled: cancel,
}

REFUSED = {
    OrderState.pending: "order.not_paid",
    OrderState.paid: "order.already_paid",
    OrderState.refunded: "order.already_refunded",
    OrderState.cancelled: "order.already_cancelled",
}


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state_does_what_the_table_says_or_nothing(
    db: Engine, state: OrderState, event: str
) -> None:
    assert set(EVENTS) == {one for events in ORDER.transitions.values() for one in events}
    made = REACHED[state](order())
    assert made["state"] == state
    before = untouched(db)

    answer = said(lambda: EVENTS[event](made))

    target = ORDER.transitions[state].get(event)
    if target is None:
        assert answer == REFUSED[state]
        assert untouched(db) == before
    else:
        assert answer["state"] == get_order(order_id=made["order_id"])["state"] == target
        assert answer["version"] == made["version"] + 1
    wallet.assert_sound()


@pytest.mark.parametrize("event", EVENTS)
def test_an_unknown_order_is_refused(db: Engine, event: str) -> None:
    assert said(lambda: EVENTS[event]({"order_id": NOBODY})) == "order.unknown"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE orders SET state = 'paid'",
        "UPDATE orders SET state = 'lost'",
        "UPDATE orders SET total_minor = -1",
        "UPDATE orders SET currency = 'USD'",
        "UPDATE order_items SET currency = 'USD'",
        "UPDATE order_items SET amount_minor = 1",
        "UPDATE order_grants SET revoked_amount = 101, held_amount = 0, lapsed_amount = 0",
    ],
)
def test_the_database_refuses_what_no_order_can_be(db: Engine, change: str) -> None:
    order()
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(text(change))


def test_a_product_that_is_switched_off_leaves_the_order_waiting_with_its_payment(
    db: Engine,
) -> None:
    made = order("bundle")
    wallet.product("COINS", is_currency=True, active=False)

    assert said(lambda: pay(made)) == "product.inactive"
    assert get_order(order_id=made["order_id"]) == made
    assert wallet.rows(db, "SELECT count(*) FROM order_payments") == [(0,)]
    wallet.product("COINS", active=True)
    assert pay(made)["state"] == "paid"


def test_orders_are_listed_newest_first_and_page_by_page(db: Engine) -> None:
    for number in range(5):
        order("pack" if number % 2 else "bundle", key=f"k{number}", day=number)
    bought(key="other", day=9, tenant_id="bolt")

    def days(**wanted: Any) -> list[str]:
        return [str(one["created_at"])[:10] for one in list_orders(**wanted)["orders"]]

    assert days(tenant_id="acme") == [f"2026-03-0{day}" for day in (5, 4, 3, 2, 1)]
    assert days(tenant_id="acme", sku="pack") == ["2026-03-04", "2026-03-02"]
    assert days(state="paid") == ["2026-03-10"]
    assert days(date_from=wallet.at(3), date_to=wallet.at(9)) == ["2026-03-05", "2026-03-04"]
    seen, cursor = [], None
    while True:
        page = list_orders(tenant_id="acme", limit=2, cursor=cursor)
        seen += page["orders"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        order(key=f"meanwhile-{len(seen)}", day=20)
    assert [one["created_at"] for one in seen] == sorted(
        (one["created_at"] for one in seen), reverse=True
    )
    assert len({one["order_id"] for one in seen}) == len(seen) == 5
    assert said(lambda: list_orders(cursor="x")) == "cursor.invalid"


def test_an_offer_in_yen_has_no_decimals(db: Engine) -> None:
    shop.sell("yen", price="1200", currency="JPY")

    assert order(("yen", 2))["total_minor"] == 2400

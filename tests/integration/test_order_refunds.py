"""Refunds of orders: what is left goes, what nobody had is refundable, and every sum agrees."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.batches import revoke
from tasks.order_list import get_order
from tests.integration import shop, wallet
from tests.integration.shop import bought, order, pay, refund


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    shop.open_shop()


def parts(refunded: Any, line: int = 0, nth: int = 0) -> tuple[str, ...]:
    """Of one grant: taken back, held, lapsed, consumed."""
    one = refunded["items"][line]["grants"][nth]
    return one["revoked"], one["held"], one["lapsed"], one["consumed"]


def assert_reconciled(refunded: Any) -> None:
    """Units add up to what was granted, lines to the total."""
    for line in refunded["items"]:
        for one in line["grants"]:
            units = [one[name] for name in ("revoked", "held", "lapsed", "consumed")]
            assert sum(map(Decimal, units)) == Decimal(one["amount"])
            assert all(Decimal(unit) >= 0 for unit in units)
        assert 0 <= line["refundable_minor"] <= line["amount_minor"]
    total = sum(line["refundable_minor"] for line in refunded["items"])
    assert refunded["refundable_minor"] == total
    wallet.assert_sound()


def test_a_refund_takes_back_what_remains_and_tells_what_is_refundable(db: Engine) -> None:
    paid = bought("pack", metadata={"cart": 9})
    wallet.consume(25, "c", day=1)

    gone = refund(paid, day=2, reason="too slow", actor="ann")

    assert (gone["state"], gone["refunded_at"]) == ("refunded", "2026-03-03T12:00:00Z")
    assert (gone["reason"], gone["actor"]) == ("too slow", "ann")
    assert parts(gone) == ("75", "0", "0", "25")
    assert gone["refundable_minor"] == 750
    assert wallet.balance(2)["balance"] == "0"
    batches = "SELECT state, remaining_amount, revoked_reason, revoked_by FROM credit_batches"
    assert wallet.rows(db, batches) == [("REVOKED", 0, "too slow", "ann")]
    entries = "SELECT action, amount, cause_type, cause_id FROM ledger_entries ORDER BY id DESC"
    assert wallet.rows(db, entries)[0] == ("revoke", 75, "billing.refund_order", paid["order_id"])
    assert get_order(order_id=paid["order_id"]) == gone
    assert refund(paid, day=9, reason="too slow", actor="ann") == gone
    told = {event["type"]: event["data"] for event in wallet.events(db)}
    assert told["billing.order_refunded"] == {
        "tenant_id": "acme",
        "order_id": paid["order_id"],
        "currency": "EUR",
        "total_minor": 1000,
        "refundable_minor": 750,
    }
    assert told["billing.credits_revoked"]["amount"] == "75"
    assert told["billing.product_deactivated"]["reason"] == "revoked"
    assert_reconciled(gone)


def test_only_the_orders_own_credit_is_taken(db: Engine) -> None:
    wallet.grant(40, "g", day=0)
    paid = bought(day=1)
    other = bought(key="other", day=1)
    wallet.consume(90, "c", day=2)

    assert parts(refund(paid, day=3)) in {("50", "0", "0", "50"), ("100", "0", "0", "0")}
    assert int(wallet.balance(3)["balance"]) in {100, 50}
    assert get_order(order_id=other["order_id"])["state"] == "paid"


def test_the_products_of_an_offer_have_equal_parts_in_its_price(db: Engine) -> None:
    paid = bought(("bundle", 2))
    wallet.consume(200, "c", day=1)

    gone = refund(paid, day=2)

    assert (parts(gone), parts(gone, nth=1)) == (("0", "0", "0", "200"), ("14", "0", "0", "0"))
    assert gone["refundable_minor"] == 999
    assert_reconciled(gone)


def test_a_cent_is_neither_lost_nor_made_by_rounding(db: Engine) -> None:
    shop.sell("third", price="0.01", items=[{"product_key": "CALLS", "quantity": "3"}])
    paid = bought("third", "third", "third")
    wallet.consume(3, "c", day=1)

    gone = refund(paid, day=2)

    assert [line["refundable_minor"] for line in gone["items"]].count(1) == 2
    assert_reconciled(gone)


def test_what_has_expired_is_not_refundable_swept_or_not(db: Engine) -> None:
    answers = []
    for sweeps in (False, True):
        tenant_id = f"swept-{sweeps}"
        paid = bought(key=tenant_id, tenant_id=tenant_id)
        wallet.consume(10, "c", day=1, tenant_id=tenant_id)
        if sweeps:
            wallet.sweep(31)
        gone = refund(paid, day=31)
        answers.append((parts(gone), gone["refundable_minor"]))
        assert_reconciled(gone)
        wallet.sweep(32)
        wallet.assert_sound()

    assert answers == [(("0", "0", "90", "10"), 0)] * 2


def test_what_an_operator_took_before_is_not_refundable_again(db: Engine) -> None:
    paid = bought("bundle")
    coins = paid["items"][0]["grants"][1]["batch_id"]
    why = {"reason": "fraud", "actor": "ann", "idempotency_key": "x", "as_of": wallet.at(1)}
    revoke(tenant_id="acme", batch_id=coins, **why)

    gone = refund(paid, day=2)

    assert (parts(gone), parts(gone, nth=1)) == (("100", "0", "0", "0"), ("0", "0", "7", "0"))
    assert gone["refundable_minor"] == 500  # 499.5, half up
    assert_reconciled(gone)


@pytest.mark.parametrize("end", ["commit", "release"])
def test_what_a_hold_keeps_is_not_refundable_however_it_ends(db: Engine, end: str) -> None:
    paid = bought()
    hold = wallet.hold(30, day=1, days=5)

    gone = refund(paid, day=2)

    assert (parts(gone), gone["refundable_minor"]) == (("70", "30", "0", "0"), 700)
    assert_reconciled(gone)
    wallet.commit(hold, 20, day=3) if end == "commit" else wallet.release(hold, day=3)
    assert wallet.balance(3)["balance"] == "0"
    wallet.assert_sound()


def test_a_hold_whose_time_is_over_keeps_nothing(db: Engine) -> None:
    paid = bought()
    wallet.hold(30, day=1, days=1)

    gone = refund(paid, day=3)

    assert (parts(gone), gone["refundable_minor"]) == (("100", "0", "0", "0"), 1000)
    assert len(wallet.events(db, "billing.reservation_released")) == 1
    assert_reconciled(gone)


def test_what_paid_debt_was_consumed(db: Engine) -> None:
    wallet.deduct(60, "before")
    paid = bought(day=1)

    gone = refund(paid, day=2)

    assert (parts(gone), gone["refundable_minor"]) == (("40", "0", "0", "60"), 400)
    assert_reconciled(gone)


def test_what_a_refunded_use_gave_back_is_refundable(db: Engine) -> None:
    paid = bought()
    wallet.consume(100, "c", day=1)
    wallet.refund(30, consume_key="c", day=1)

    gone = refund(paid, day=2)

    assert (parts(gone), gone["refundable_minor"]) == (("30", "0", "0", "70"), 300)
    assert_reconciled(gone)


def test_nothing_of_a_batch_that_is_used_up_comes_back_after_the_refund(db: Engine) -> None:
    paid = bought()
    wallet.consume(100, "c", day=1)
    gone = refund(paid, day=2)

    wallet.refund(consume_key="c", day=3)

    assert (parts(gone), gone["refundable_minor"]) == (("0", "0", "0", "100"), 0)
    assert wallet.balance(3)["available"] == "0"
    wallet.assert_sound()


@pytest.mark.parametrize(("day", "refundable"), [(0, 1000), (3, 900), (29.99, 0), (30, 0)])
def test_of_a_product_that_use_takes_nothing_from_the_time_left_is_refundable(
    db: Engine, day: float, refundable: int
) -> None:
    wallet.product("ACCESS", "period")
    shop.sell("month", items=[{**shop.CALLS, "product_key": "ACCESS", "quantity": "1"}])
    paid = bought("month")
    wallet.consume(1, "c", product_key="ACCESS")

    gone = refund(paid, day=day)

    assert gone["refundable_minor"] == refundable
    assert_reconciled(gone)


def test_a_free_order_gives_back_its_credit_and_no_money(db: Engine) -> None:
    free = order("taste")

    gone = refund(free, day=1)

    assert (gone["refundable_minor"], parts(gone)) == (0, ("100", "0", "0", "0"))
    assert wallet.balance(1)["balance"] == "0"


def test_the_same_refund_again_changes_nothing_and_another_is_refused(db: Engine) -> None:
    paid = bought()
    first = refund(paid)
    told = wallet.events(db)

    assert refund(paid) == first
    assert shop.said(lambda: refund(paid, "other")) == "order.already_refunded"
    assert shop.said(lambda: refund(paid, reason="another")) == "idempotency.conflict"
    assert wallet.events(db) == told


def test_a_refund_of_what_was_never_paid_says_what_to_do(db: Engine) -> None:
    made = order()

    assert shop.said(lambda: refund(made)) == "order.not_paid"
    assert pay(made)["state"] == "paid"

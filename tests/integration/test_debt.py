"""What was used after the fact and not paid: the first thing that new credit pays."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from models.store import product
from tests.integration import wallet


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def owes(day: float = 0) -> tuple[str, str, str]:
    """Balance, debt and available."""
    found = wallet.balance(day)
    return found["balance"], found["debt"], found["available"]


def test_what_is_there_is_taken_and_the_rest_is_owed(db: Engine) -> None:
    first = wallet.grant(5, "g1")["batch_id"]
    second = wallet.grant(3, "g2", day=0.1)["batch_id"]

    answer = wallet.deduct("10.5", "d", day=1, metadata={"call": "c-1"})

    assert answer == {
        "deducted": True,
        "amount": "10.5",
        "overdraft": "2.5",
        "balance": "-2.5",
        "debt": "2.5",
        "batches": [
            {"batch_id": first, "amount": "5"},
            {"batch_id": second, "amount": "3"},
        ],
    }
    last = "SELECT action, amount, batch_id, metadata FROM ledger_entries ORDER BY id DESC LIMIT 1"
    assert wallet.rows(db, last) == [("overdraft", Decimal("2.5"), None, {"call": "c-1"})]
    assert owes(1) == ("-2.5", "2.5", "0")
    (event,) = wallet.events(db, "billing.quota_consumed")
    assert (event["data"]["amount"], event["data"]["overdraft"]) == ("10.5", "2.5")
    assert event["data"]["balance"] == "-2.5"
    (told,) = wallet.events(db, "billing.product_deactivated")
    assert told["data"]["reason"] == "exhausted"
    wallet.assert_sound()


def test_what_is_covered_makes_no_debt(db: Engine) -> None:
    wallet.grant(10, "g")

    assert wallet.deduct(4, "d")["overdraft"] == "0"
    assert owes() == ("6", "0", "6")
    wallet.assert_sound()


def test_a_tenant_nobody_introduced_can_owe(db: Engine) -> None:
    assert wallet.deduct(4, "d", tenant_id="newcomer")["debt"] == "4"
    assert wallet.balance(tenant_id="newcomer")["balance"] == "-4"
    assert wallet.rows(db, "SELECT tenant_id FROM tenants") == [("newcomer",)]
    with pytest.raises(product.UnknownProduct):
        wallet.deduct(1, "d", product_key="NONE")
    wallet.assert_sound()


def test_the_same_key_is_owed_once(db: Engine) -> None:
    assert wallet.deduct(4, "d") == wallet.deduct(4, "d", day=1)
    assert owes() == ("-4", "4", "0")


def test_the_next_grant_pays_the_debt_first_and_the_ledger_shows_it(db: Engine) -> None:
    wallet.deduct(4, "d")

    answer = wallet.grant(10, "g", day=1)

    assert (answer["repaid"], answer["balance"], answer["debt"]) == ("4", "6", "0")
    assert wallet.ledger(db) == [
        ("DEBIT", "overdraft", 4, -4),
        ("CREDIT", "grant", 10, 6),
        ("DEBIT", "repay", 4, 2),
        ("CREDIT", "repay", 4, 6),
    ]
    batches = "SELECT action, batch_id FROM ledger_entries WHERE action = 'repay' ORDER BY id"
    assert [row[1] for row in wallet.rows(db, batches)] == [UUID(answer["batch_id"]), None]
    assert owes(1) == ("6", "0", "6")
    (event,) = wallet.events(db, "billing.credits_granted")
    assert (event["data"]["repaid"], event["data"]["balance"]) == ("4", "6")
    wallet.assert_sound()


def test_a_batch_that_the_debt_eats_is_exhausted(db: Engine) -> None:
    wallet.deduct(14, "d")

    assert wallet.grant(10, "g", day=1)["debt"] == "4"
    state = "SELECT state, remaining_amount, closed_at FROM credit_batches"
    assert wallet.rows(db, state) == [("EXHAUSTED", 0, wallet.at(1))]
    assert owes(1) == ("-4", "4", "0")
    assert wallet.consume(1, "c", day=1)["reason"] == "quota_exhausted"
    assert wallet.grant(10, "g2", day=2)["repaid"] == "4"
    assert owes(2) == ("6", "0", "6")
    assert wallet.events(db, "billing.product_deactivated") == []
    wallet.assert_sound()


def test_more_debt_adds_up(db: Engine) -> None:
    wallet.deduct(4, "d1")
    assert wallet.deduct(3, "d2")["debt"] == "7"
    assert owes() == ("-7", "7", "0")


def test_what_a_hold_has_set_aside_is_not_taken_and_pays_when_it_comes_back(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)

    assert wallet.deduct(7, "d")["overdraft"] == "3"
    assert owes() == ("3", "3", "0")
    wallet.release(held)
    assert owes() == ("3", "0", "3")
    assert wallet.ledger(db)[-2:] == [("DEBIT", "repay", 3, 0), ("CREDIT", "repay", 3, 3)]
    wallet.assert_sound()


@pytest.mark.parametrize(
    "come_back",
    [
        lambda held: wallet.commit(held, 1, day=0.5),
        lambda _: wallet.sweep_holds(1),
        lambda held: wallet.commit(held, day=1),
    ],
    ids=["committed in part", "swept", "found over"],
)
def test_whatever_comes_back_of_a_hold_pays(db: Engine, come_back: Callable[[str], Any]) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)
    wallet.deduct(7, "d")

    come_back(held)

    assert wallet.balance(1)["debt"] == "0"
    wallet.assert_sound()


def test_credit_that_is_valid_later_pays_when_it_is_needed(db: Engine) -> None:
    wallet.grant(10, "later", valid_from=5)
    wallet.deduct(4, "d")
    assert wallet.grant(3, "much later", valid_from=9)["repaid"] == "0"

    assert owes(4) == ("9", "4", "0")
    assert owes(5) == ("9", "4", "6")
    assert wallet.consume(7, "c1", day=5)["available"] == "6"
    assert wallet.consume(6, "c2", day=5)["balance"] == "3"
    assert owes(5) == ("3", "0", "0")
    wallet.assert_sound()


def test_debt_is_paid_in_the_products_order(db: Engine) -> None:
    wallet.grant(2, "later", valid_from=5)
    wallet.deduct(4, "d")

    assert wallet.grant(3, "g", day=5)["repaid"] == "4"
    remaining = "SELECT remaining_amount FROM credit_batches ORDER BY created_at"
    assert wallet.rows(db, remaining) == [(0,), (1,)]
    wallet.assert_sound()


def test_nothing_can_be_reserved_while_anything_is_owed(db: Engine) -> None:
    wallet.deduct(4, "d")
    wallet.grant(5, "g")

    assert wallet.reserve(2, "h")["available"] == "1"


def test_a_hold_that_is_over_is_taken_before_debt_is_made(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.hold(6)

    assert wallet.deduct(8, "d", day=1)["overdraft"] == "0"
    wallet.assert_sound()


@pytest.mark.parametrize("type_", ["period", "unlimited"])
def test_use_of_what_is_not_counted_is_entered_with_or_without_a_batch(
    db: Engine, type_: str
) -> None:
    wallet.product("ACCESS", type_)

    assert wallet.deduct(9, "d1", product_key="ACCESS")["batches"] == []
    batch_id = wallet.grant(1, "g", product_key="ACCESS")["batch_id"]
    answer = wallet.deduct(9, "d2", product_key="ACCESS")

    assert answer["batches"] == [{"batch_id": batch_id, "amount": "9"}]
    assert (answer["balance"], answer["debt"]) == ("1", "0")
    assert [entry[0] for entry in wallet.ledger(db)] == ["USE", "CREDIT", "USE"]
    wallet.assert_sound()

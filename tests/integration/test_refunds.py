"""Giving back what a use took: the last taken first, and never more than it took."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from models.store import credit_refund, inbox, reservation
from tasks.refunds import UnclearUse
from tests.integration import wallet
from tests.integration.explained import explained


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def remaining(db: Engine) -> list[tuple[int, str]]:
    batches = "SELECT remaining_amount, state FROM credit_batches ORDER BY created_at"
    return [(int(amount), state) for amount, state in wallet.rows(db, batches)]


def test_all_of_a_use_goes_back_to_its_batches_which_are_active_again(db: Engine) -> None:
    first = wallet.grant(5, "g1")["batch_id"]
    second = wallet.grant(5, "g2", day=0.1)["batch_id"]
    wallet.consume(7, "c", day=1)

    answer = wallet.refund(consume_key="c", day=2, reason="the answer was wrong")

    assert answer == {
        "refunded": True,
        "product_key": "CALLS",
        "amount": "7",
        "written_off": "0",
        "refundable": "0",
        "balance": "10",
        "debt": "0",
        "batches": [
            {"batch_id": second, "amount": "2"},
            {"batch_id": first, "amount": "5"},
        ],
    }
    assert remaining(db) == [(5, "ACTIVE"), (5, "ACTIVE")]
    assert wallet.ledger(db)[-2:] == [("CREDIT", "refund", 2, 5), ("CREDIT", "refund", 5, 10)]
    causes = "SELECT DISTINCT cause_type, cause_id, metadata FROM ledger_entries WHERE action = "
    assert wallet.rows(db, causes + "'refund'") == [
        ("billing.consume_quota", "c", {"reason": "the answer was wrong"})
    ]
    (event,) = wallet.events(db, "billing.credits_refunded")
    assert event["data"] == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "amount": "7",
        "balance": "10",
        "reservation_id": None,
        "idempotency_key": "c",
        "reason": "the answer was wrong",
    }
    assert wallet.balance(2)["available"] == "10"
    wallet.assert_sound()


def test_parts_go_back_one_after_the_other_and_never_more_than_was_taken(db: Engine) -> None:
    for number in range(3):
        wallet.grant(4, f"g{number}", day=number / 10)
    wallet.consume(10, "c", day=1)

    assert wallet.refund(3, consume_key="c", key="r1")["refundable"] == "7"
    assert remaining(db) == [(0, "EXHAUSTED"), (1, "ACTIVE"), (4, "ACTIVE")]
    assert wallet.refund(4, consume_key="c", key="r2")["refundable"] == "3"
    assert remaining(db) == [(1, "ACTIVE"), (4, "ACTIVE"), (4, "ACTIVE")]
    assert wallet.refund(4, consume_key="c", key="r3") == {
        "refunded": False,
        "reason": "exceeds_use",
        "refundable": "3",
    }
    assert wallet.refund(consume_key="c", key="r4")["amount"] == "3"
    assert wallet.refund(consume_key="c", key="r5") == {
        "refunded": False,
        "reason": "nothing_to_refund",
        "refundable": "0",
    }
    assert len(wallet.events(db, "billing.credits_refunded")) == 3
    wallet.assert_sound()


def test_the_same_key_gives_back_once(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.consume(8, "c")

    assert wallet.refund(3, consume_key="c") == wallet.refund(3, consume_key="c", day=1)
    assert wallet.balance(1)["balance"] == "5"
    with pytest.raises(inbox.IdempotencyConflict):
        wallet.refund(4, consume_key="c")


def test_what_a_hold_came_to_goes_back(db: Engine) -> None:
    wallet.grant(4, "g1")
    wallet.grant(10, "g2", day=0.1)
    held = wallet.hold(6, day=0.2)
    wallet.commit(held, 8, above="take_available", day=0.3)

    answer = wallet.refund(5, reservation_id=held, day=1)

    assert (answer["amount"], answer["refundable"]) == ("5", "3")
    assert remaining(db) == [(1, "ACTIVE"), (10, "ACTIVE")]
    (event,) = wallet.events(db, "billing.credits_refunded")
    assert (event["data"]["reservation_id"], event["data"]["idempotency_key"]) == (held, None)
    wallet.assert_sound()


def test_what_came_back_of_a_hold_can_not_be_refunded_as_well(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=2)
    held = wallet.hold(6, days=5)
    wallet.sweep(2)
    wallet.commit(held, 1, day=3)

    assert wallet.refund(2, reservation_id=held, day=3)["refundable"] == "1"


@pytest.mark.parametrize("end", ["release", "nothing", "none"])
def test_a_hold_that_charged_nothing_has_nothing_to_give_back(db: Engine, end: str) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)
    if end == "release":
        wallet.release(held)
    elif end == "nothing":
        wallet.commit(held, 0)

    assert wallet.refund(reservation_id=held)["reason"] == "nothing_to_refund"


def test_what_comes_to_a_batch_that_has_ended_is_written_off_at_once(db: Engine) -> None:
    over = wallet.grant(5, "g1", expires_at=2)["batch_id"]
    wallet.grant(5, "g2", day=0.1)
    wallet.consume(4, "c1", day=1)
    wallet.consume(3, "c2", day=1)
    wallet.sweep(3)

    answer = wallet.refund(consume_key="c2", day=3)

    assert (answer["amount"], answer["written_off"], answer["balance"]) == ("3", "1", "5")
    assert wallet.ledger(db)[-3:] == [
        ("CREDIT", "refund", 2, 5),
        ("CREDIT", "refund", 1, 6),
        ("DEBIT", "expire", 1, 5),
    ]
    (event,) = wallet.events(db, "billing.credits_expired")
    assert (event["data"]["batch_id"], event["data"]["amount"]) == (over, "1")
    assert wallet.refund(consume_key="c1", key="again", day=3)["written_off"] == "4"
    assert remaining(db) == [(0, "EXHAUSTED"), (5, "ACTIVE")]
    assert wallet.sweep(4)["expired"] == 0
    wallet.assert_sound()


def test_a_batch_that_was_swept_gets_nothing_back(db: Engine) -> None:
    wallet.grant(5, "g", expires_at=2)
    wallet.consume(3, "c", day=1)
    wallet.sweep(3)

    assert wallet.refund(consume_key="c", day=3)["written_off"] == "3"
    assert remaining(db) == [(0, "EXPIRED")]
    wallet.assert_sound()


def test_a_batch_that_is_over_and_not_swept_gets_nothing_back(db: Engine) -> None:
    wallet.grant(5, "g", expires_at=2)
    wallet.consume(3, "c", day=1)

    assert wallet.refund(consume_key="c", day=3)["written_off"] == "3"
    assert remaining(db) == [(2, "ACTIVE")]
    assert wallet.sweep(3)["expired"] == 1
    assert wallet.ledger(db)[-1] == ("DEBIT", "expire", 2, 0)
    wallet.assert_sound()


def test_what_became_debt_lessens_the_debt_first(db: Engine) -> None:
    batch_id = wallet.grant(5, "g")["batch_id"]
    wallet.deduct(8, "d")

    answer = wallet.refund(4, deduct_key="d", day=1)

    assert answer["batches"] == [
        {"batch_id": None, "amount": "3"},
        {"batch_id": batch_id, "amount": "1"},
    ]
    assert (answer["balance"], answer["debt"]) == ("1", "0")
    wallet.assert_sound()


def test_debt_that_was_paid_meanwhile_comes_back_as_a_new_batch(db: Engine) -> None:
    wallet.deduct(8, "d")
    wallet.grant(6, "g", day=1, expires_at=5)

    answer = wallet.refund(deduct_key="d", day=2)

    debt, new = answer["batches"]
    assert debt == {"batch_id": None, "amount": "2"}
    batch = "SELECT initial_amount, expires_at, source FROM credit_batches WHERE id = '{}'"
    assert wallet.rows(db, batch.format(UUID(new["batch_id"]))) == [(6, None, "refund")]
    assert (answer["amount"], answer["balance"], answer["debt"]) == ("8", "6", "0")
    assert wallet.refund(deduct_key="d", key="again", day=2)["reason"] == "nothing_to_refund"
    wallet.assert_sound()


def test_what_is_given_back_pays_what_is_owed_for_other_uses(db: Engine) -> None:
    wallet.grant(5, "g")
    wallet.consume(5, "c")
    wallet.deduct(3, "d")

    answer = wallet.refund(consume_key="c")

    assert (answer["balance"], answer["debt"]) == ("2", "0")
    assert wallet.ledger(db)[-3:] == [
        ("CREDIT", "refund", 5, 2),
        ("DEBIT", "repay", 3, -1),
        ("CREDIT", "repay", 3, 2),
    ]
    wallet.assert_sound()


def test_a_use_must_be_named_once_and_be_known(db: Engine) -> None:
    wallet.grant(5, "g")
    wallet.consume(1, "c")
    held = wallet.hold(1)
    wallet.commit(held)

    calls: list[tuple[type[Exception], dict[str, Any]]] = [
        (UnclearUse, {}),
        (UnclearUse, {"consume_key": "c", "deduct_key": "c"}),
        (credit_refund.UnknownUse, {"consume_key": "other"}),
        (credit_refund.UnknownUse, {"deduct_key": "c"}),
        (credit_refund.UnknownUse, {"consume_key": "c", "tenant_id": "bolt"}),
        (reservation.UnknownReservation, {"reservation_id": held, "tenant_id": "bolt"}),
    ]
    for refusal, use in calls:
        with pytest.raises(refusal):
            wallet.refund(**use)
    assert wallet.balance()["balance"] == "3"


def test_use_that_took_nothing_has_nothing_to_give_back(db: Engine) -> None:
    wallet.product("ACCESS", "unlimited")
    wallet.grant(1, "g", product_key="ACCESS")
    wallet.consume(100, "c", product_key="ACCESS")

    assert wallet.refund(consume_key="c")["reason"] == "nothing_to_refund"


def test_one_use_is_found_among_many_without_reading_them(db: Engine) -> None:
    wallet.grant(5, "g")
    wallet.consume(1, "c")
    with db.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action,"
                " balance_after, cause_type, cause_id, created_at)"
                " SELECT 'acme', 'CALLS', 'USE', 1, 'consume', 4, 'billing.consume_quota',"
                " 'n' || n, now() FROM generate_series(1, 5000) AS n"
            )
        )
        connection.execute(text("ANALYZE ledger_entries"))

    with explained(db, "cause_id = ") as plans:
        wallet.refund(consume_key="c")

    assert len(plans) == 2
    for plan in plans:
        assert "using ix_ledger_entries_uses" in plan

"""Holds: set aside once, then charged, given back or over, exactly one of the three."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules.states import ReservationState
from models.store import (
    ending,
    inbox,
    product,
    reservation,
    reservation_charge,
    reservation_end,
)
from tasks import contract
from tasks.reservation_list import get_reservation, list_reservations
from tests.integration import wallet

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def topics(db: Engine) -> list[str]:
    """What was told, without the grants."""
    told = [event["type"].removeprefix("billing.") for event in wallet.events(db)]
    return [topic for topic in told if topic != "credits_granted"]


def standing(day: float = 0, **rest: Any) -> tuple[str, str, str]:
    """Balance, held and available."""
    found = wallet.balance(day, **rest)
    return found["balance"], found["held"], found["available"]


def test_what_is_reserved_is_nobody_elses(db: Engine) -> None:
    wallet.grant(10, "g")

    answer = wallet.reserve("6.5", "h", days=0.5, reason="a long job")

    assert answer == {
        "reserved": True,
        "reservation_id": answer["reservation_id"],
        "amount": "6.5",
        "expires_at": "2026-03-02T00:00:00Z",
        "balance": "10",
        "available": "3.5",
    }
    assert standing() == ("10", "6.5", "3.5")
    assert wallet.consume(4, "c1")["available"] == "3.5"
    assert wallet.reserve(4, "h2") == {
        "reserved": False,
        "reason": "insufficient_funds",
        "available": "3.5",
    }
    (event,) = wallet.events(db, "billing.credits_reserved")
    assert event["data"] == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "reservation_id": answer["reservation_id"],
        "amount": "6.5",
        "balance": "10",
        "available": "3.5",
        "expires_at": "2026-03-02T00:00:00Z",
        "reason": "a long job",
    }
    assert wallet.ledger(db) == [("CREDIT", "grant", 10, 10)]
    wallet.assert_sound()


def test_reserving_from_nothing_is_an_answer_that_is_kept(db: Engine) -> None:
    nothing = wallet.reserve(1, "h")
    wallet.grant(5, "g")

    assert nothing == {"reserved": False, "reason": "quota_exhausted", "available": "0"}
    assert wallet.reserve(1, "h") == nothing
    assert wallet.reserve(1, "h2")["reserved"] is True


def test_reserving_twice_with_one_key_holds_once(db: Engine) -> None:
    wallet.grant(10, "g")
    first = wallet.reserve(4, "h")

    assert wallet.reserve(4, "h", day=0.1) == first
    assert standing()[1] == "4"
    with pytest.raises(inbox.IdempotencyConflict):
        wallet.reserve(5, "h")


def test_an_unknown_product_is_refused(db: Engine) -> None:
    with pytest.raises(product.UnknownProduct):
        wallet.reserve(1, "h", product_key="NONE")


@pytest.mark.parametrize("seconds", [0, 7 * 86_400 + 1])
def test_a_hold_lasts_a_second_to_a_week(db: Engine, seconds: int) -> None:
    with pytest.raises(contract.InvalidMessage, match="ttl_seconds"):
        wallet.reserve(1, "h", days=seconds / 86_400)


def test_committing_charges_the_batches_in_the_order_they_were_set_aside(db: Engine) -> None:
    first = wallet.grant(5, "g1")["batch_id"]
    second = wallet.grant(20, "g2", day=0.1)["batch_id"]
    held = wallet.hold(8, day=0.2)

    answer = wallet.commit(held, day=0.3, metadata={"tokens": 8})

    assert answer == {
        "committed": True,
        "reservation_id": held,
        "amount": "8",
        "returned": "0",
        "overdraft": "0",
        "uncovered": "0",
        "balance": "17",
        "debt": "0",
        "batches": [
            {"batch_id": first, "amount": "5"},
            {"batch_id": second, "amount": "3"},
        ],
    }
    assert wallet.ledger(db)[2:] == [("DEBIT", "commit", 5, 20), ("DEBIT", "commit", 3, 17)]
    causes = "SELECT DISTINCT cause_type, cause_id, metadata FROM ledger_entries WHERE action = "
    assert wallet.rows(db, causes + "'commit'") == [("reservation", held, {"tokens": 8})]
    assert standing(0.3) == ("17", "0", "17")
    wallet.assert_sound()


def test_what_was_not_used_goes_back_to_where_it_was(db: Engine) -> None:
    wallet.grant(5, "g1")
    wallet.grant(20, "g2", day=0.1)
    held = wallet.hold(8, day=0.2)

    answer = wallet.commit(held, 3, day=0.3)

    assert (answer["amount"], answer["returned"]) == ("3", "5")
    assert wallet.ledger(db)[2:] == [("DEBIT", "commit", 3, 22)]
    assert standing(0.3) == ("22", "0", "22")
    (event,) = wallet.events(db, "billing.reservation_committed")
    assert event["data"] == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "reservation_id": held,
        "amount": "3",
        "returned": "5",
        "overdraft": "0",
        "uncovered": "0",
        "balance": "22",
    }
    wallet.assert_sound()


def test_using_nothing_gives_everything_back(db: Engine) -> None:
    wallet.grant(5, "g")
    held = wallet.hold(5)

    answer = wallet.commit(held, 0)

    assert (answer["committed"], answer["amount"], answer["returned"]) == (True, "0", "5")
    assert standing() == ("5", "0", "5")
    assert get_reservation(reservation_id=held)["committed_amount"] == "0"
    assert wallet.ledger(db) == [("CREDIT", "grant", 5, 5)]
    wallet.assert_sound()


def test_more_than_was_set_aside_is_refused_unless_it_is_allowed(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(4)

    refused = wallet.commit(held, 5, key="too much")

    assert refused == {"committed": False, "reservation_id": held, "reason": "above_hold"}
    assert standing() == ("10", "4", "6")
    assert wallet.commit(held, 5, key="anyway", above="take_available")["amount"] == "5"
    assert standing() == ("5", "0", "5")
    wallet.assert_sound()


def test_what_is_available_is_taken_and_the_rest_is_told(db: Engine) -> None:
    only = wallet.grant(10, "g")["batch_id"]
    held = wallet.hold(4)

    answer = wallet.commit(held, 13, above="take_available")

    assert (answer["amount"], answer["uncovered"], answer["overdraft"]) == ("10", "3", "0")
    assert answer["batches"] == [{"batch_id": only, "amount": "10"}]
    assert (answer["balance"], answer["debt"]) == ("0", "0")
    assert topics(db)[-2:] == ["product_deactivated", "reservation_committed"]
    wallet.assert_sound()


def test_what_is_not_there_becomes_debt_if_that_is_allowed(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(4)

    answer = wallet.commit(held, 13, above="overdraft")

    assert (answer["amount"], answer["uncovered"], answer["overdraft"]) == ("13", "0", "3")
    assert (answer["balance"], answer["debt"]) == ("-3", "3")
    assert wallet.ledger(db)[1:] == [
        ("DEBIT", "commit", 4, 6),
        ("DEBIT", "commit", 6, 0),
        ("DEBIT", "overdraft", 3, -3),
    ]
    wallet.assert_sound()


def test_another_tenants_hold_is_not_taken_for_what_is_above(db: Engine) -> None:
    wallet.grant(10, "g")
    other = wallet.hold(5, "other")
    held = wallet.hold(4)

    assert wallet.commit(held, 9, above="take_available")["amount"] == "5"
    assert wallet.commit(other, key="other")["amount"] == "5"
    wallet.assert_sound()


def test_released_credit_can_be_spent_again(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)

    answer = wallet.release(held, reason="the job failed")

    assert answer == {"released": True, "reservation_id": held, "amount": "6", "balance": "10"}
    assert standing() == ("10", "0", "10")
    found = get_reservation(reservation_id=held)
    assert (found["state"], found["release_reason"]) == ("released", "the job failed")
    (event,) = wallet.events(db, "billing.reservation_released")
    assert event["data"] == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "reservation_id": held,
        "amount": "6",
        "balance": "10",
        "reason": "released",
    }
    wallet.assert_sound()


@pytest.mark.parametrize("first", ["committed", "released", "expired"])
def test_what_comes_second_finds_how_the_hold_ended(db: Engine, first: str) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)
    if first == "committed":
        wallet.commit(held, 2)
    elif first == "released":
        wallet.release(held)
    else:
        wallet.sweep_holds(1)
    before, told = standing(1), len(wallet.events(db))

    assert wallet.commit(held, key="late", day=1) == {
        "committed": False,
        "reservation_id": held,
        "reason": first,
    }
    assert wallet.release(held, key="late", day=1) == {
        "released": False,
        "reservation_id": held,
        "reason": first,
    }
    assert wallet.sweep_holds(2)["expired"] == 0
    assert standing(1) == before
    assert len(wallet.events(db)) == told
    wallet.assert_sound()


def test_a_hold_that_has_ended_is_not_closed_again_even_unasked(db: Engine) -> None:
    """Its state is asked for under the lock; the write asks once more."""
    wallet.grant(100, "g")
    held = wallet.hold(8)
    wallet.release(held)

    closing = reservation_charge._closing(UUID(held), Decimal(8), wallet.at(0.1))
    with pytest.raises(IntegrityError), database.transaction() as session:
        ending.write(session, [closing], ending.Part("SELECT 1", {}))

    with database.transaction() as session:
        over = reservation_end.end(
            session, [UUID(held)], state=ReservationState.expired, now=wallet.at(0.1)
        )

    assert over == []
    assert get_reservation(reservation_id=held)["state"] == "released"
    wallet.assert_sound()


def test_the_same_key_charges_once_and_answers_alike(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)

    assert wallet.commit(held, 2, day=0.1) == wallet.commit(held, 2, day=0.2)
    with pytest.raises(inbox.IdempotencyConflict):
        wallet.commit(held, 3)
    assert standing()[0] == "8"


def test_one_key_for_two_holds_is_two_commits(db: Engine) -> None:
    for tenant_id in ("acme", "bolt"):
        wallet.grant(10, "g", tenant_id=tenant_id)
    holds = [wallet.hold(6, "request 1", tenant_id=tenant_id) for tenant_id in ("acme", "bolt")]

    assert [wallet.commit(held, key="request 1")["amount"] for held in holds] == ["6", "6"]
    assert wallet.balance(tenant_id="bolt")["balance"] == "4"


def test_an_unknown_reservation_is_refused(db: Engine) -> None:
    for call in (wallet.commit, wallet.release):
        with pytest.raises(reservation.UnknownReservation, match=NOBODY):
            call(NOBODY)
    with pytest.raises(reservation.UnknownReservation):
        get_reservation(reservation_id=NOBODY)


def test_a_hold_whose_time_is_over_goes_back(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)

    assert wallet.sweep_holds(0.999) == {"expired": 0, "passed_over": 0, "finished": True}
    assert wallet.sweep_holds(1) == {"expired": 1, "passed_over": 0, "finished": True}
    assert standing(1) == ("10", "0", "10")
    found = get_reservation(reservation_id=held)
    assert (found["state"], str(found["closed_at"])) == ("expired", "2026-03-02T12:00:00Z")
    (event,) = wallet.events(db, "billing.reservation_released")
    assert event["data"]["reason"] == "expired"
    wallet.assert_sound()


def test_a_hold_whose_time_is_over_can_not_be_charged_swept_or_not(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)

    assert wallet.commit(held, day=1)["reason"] == "expired"
    assert wallet.commit(held, key="again", day=1)["reason"] == "expired"
    assert standing(1) == ("10", "0", "10")
    assert topics(db) == ["credits_reserved", "reservation_released"]
    wallet.assert_sound()


def test_releasing_what_is_over_finds_it_expired(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)

    assert wallet.release(held, day=1)["reason"] == "expired"
    assert get_reservation(reservation_id=held)["release_reason"] is None


def test_who_needs_what_is_over_gets_it_before_the_sweep(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.hold(3, "h1")
    wallet.hold(3, "h2")
    wallet.hold(2, "h3", days=5)

    assert standing(1) == ("10", "2", "8")
    assert wallet.consume(9, "c1", day=1)["available"] == "8"
    assert wallet.consume(8, "c2", day=1)["consumed"] is True
    assert topics(db).count("reservation_released") == 2
    assert wallet.sweep_holds(1)["expired"] == 0
    wallet.assert_sound()


def test_what_is_over_is_available_to_the_next_hold(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.hold(3)

    assert wallet.reserve(2, "h2", day=1)["available"] == "8"
    assert standing(1) == ("10", "2", "8")
    wallet.assert_sound()


def test_a_hold_outlives_its_batch_and_is_charged_to_it(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=1)
    held = wallet.hold(6, days=3)
    wallet.sweep(1)

    assert standing(1) == ("6", "6", "0")
    assert wallet.commit(held, day=2)["amount"] == "6"
    assert standing(2) == ("0", "0", "0")
    assert wallet.ledger(db)[1:] == [("DEBIT", "expire", 4, 6), ("DEBIT", "commit", 6, 0)]
    assert topics(db).count("product_deactivated") == 1
    wallet.assert_sound()


def test_what_goes_back_to_a_batch_that_has_expired_is_written_off_at_once(db: Engine) -> None:
    batch_id = wallet.grant(10, "g", expires_at=1)["batch_id"]
    held = wallet.hold(6, days=3)
    wallet.sweep(1)

    answer = wallet.commit(held, 2, day=2)

    assert (answer["returned"], answer["balance"]) == ("4", "0")
    assert wallet.ledger(db)[2:] == [("DEBIT", "commit", 2, 4), ("DEBIT", "expire", 4, 0)]
    last = wallet.events(db, "billing.credits_expired")[-1]["data"]
    assert (last["batch_id"], last["amount"], last["balance"]) == (batch_id, "4", "0")
    wallet.assert_sound()


@pytest.mark.parametrize("how", ["release", "sweep"])
def test_a_hold_that_ends_after_its_batch_is_written_off_at_once(db: Engine, how: str) -> None:
    wallet.grant(10, "g1", expires_at=1)
    wallet.grant(10, "g2", day=0.1)
    held = wallet.hold(12, days=3, day=0.2)
    wallet.sweep(1)

    if how == "release":
        wallet.release(held, day=2)
    else:
        wallet.sweep_holds(3.2)

    assert wallet.ledger(db)[2:] == [("DEBIT", "expire", 10, 10)]
    assert standing(3.2) == ("10", "0", "10")
    assert [event["data"]["amount"] for event in wallet.events(db, "billing.credits_expired")] == [
        "10"
    ]
    wallet.assert_sound()


def test_a_hold_given_back_before_the_sweep_of_its_batch_is_left_to_it(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=1)
    held = wallet.hold(6, days=3)

    wallet.release(held, day=2)

    assert standing(2) == ("10", "0", "0")
    assert wallet.sweep(2)["expired"] == 1
    assert wallet.ledger(db)[1:] == [("DEBIT", "expire", 10, 0)]
    assert topics(db).count("product_deactivated") == 1
    wallet.assert_sound()


def test_a_batch_that_is_held_in_full_ends_and_is_told_of(db: Engine) -> None:
    wallet.grant(6, "g", expires_at=1)
    held = wallet.hold(6, days=3)

    assert wallet.sweep(1)["expired"] == 1
    assert wallet.commit(held, day=2)["balance"] == "0"
    (told,) = wallet.events(db, "billing.product_deactivated")
    assert told["data"]["reason"] == "expired"
    assert wallet.events(db, "billing.credits_expired") == []
    wallet.assert_sound()


def test_committing_the_last_of_a_batch_that_is_over_but_not_swept_is_told_once(
    db: Engine,
) -> None:
    wallet.grant(6, "g", expires_at=1)
    held = wallet.hold(6, days=3)

    wallet.commit(held, day=2)
    wallet.sweep(3)

    (told,) = wallet.events(db, "billing.product_deactivated")
    assert told["data"]["reason"] == "exhausted"


def test_a_revoked_batch_keeps_what_is_held_and_loses_what_comes_back(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(6)
    with db.begin() as connection:
        # What taking back a batch comes to: the rest of it goes, what is held stays.
        connection.execute(
            text(
                "UPDATE credit_batches SET state = 'REVOKED', remaining_amount = 6, "
                "closed_at = now()"
            )
        )
        connection.execute(text("UPDATE credit_balances SET balance = 6, version = version + 1"))
        connection.execute(
            text(
                "INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action,"
                " batch_id, balance_after, cause_type, cause_id, created_at)"
                " SELECT tenant_id, product_key, 'DEBIT', 4, 'revoke', id, 6, 'test', '1', now()"
                " FROM credit_batches"
            )
        )

    assert wallet.commit(held, 1)["balance"] == "0"
    assert wallet.ledger(db)[2:] == [("DEBIT", "commit", 1, 5), ("DEBIT", "revoke", 5, 0)]
    assert wallet.events(db, "billing.credits_expired") == []
    wallet.assert_sound()


@pytest.mark.parametrize("type_", ["period", "unlimited"])
def test_nothing_is_set_aside_of_what_is_not_counted_and_its_use_is_entered(
    db: Engine, type_: str
) -> None:
    wallet.product("ACCESS", type_)
    assert wallet.reserve(1, "early", product_key="ACCESS")["reason"] == "quota_exhausted"
    batch_id = wallet.grant(1, "g", product_key="ACCESS")["batch_id"]
    first = wallet.hold(1000, "h1", product_key="ACCESS")
    second = wallet.hold(1000, "h2", product_key="ACCESS")
    third = wallet.hold(1000, "h3", product_key="ACCESS")

    assert wallet.balance(product_key="ACCESS")["available"] == "1"
    assert wallet.commit(first, 400)["batches"] == [{"batch_id": batch_id, "amount": "400"}]
    assert wallet.commit(second, 0)["amount"] == "0"
    assert wallet.release(third)["released"] is True
    assert wallet.ledger(db)[1:] == [("USE", "commit", 400, 1)]
    wallet.assert_sound()


def test_a_hold_over_many_batches_is_charged_to_all_of_them(db: Engine) -> None:
    for number in range(40):
        wallet.grant(1, f"g{number}", day=number / 100)
    held = wallet.hold(37, day=1)

    assert standing(1) == ("40", "37", "3")
    assert wallet.commit(held, 35, day=1)["balance"] == "5"
    assert standing(1) == ("5", "0", "5")
    wallet.assert_sound()


def test_many_holds_are_swept_in_chunks_and_one_in_use_is_passed_over(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.credit_upkeep.HOLDS_CHUNK", 2)
    for tenant_id in ("acme", "bolt", "busy"):
        wallet.grant(10, "g", tenant_id=tenant_id)
        for number in range(3):
            wallet.hold(1, f"h{number}", tenant_id=tenant_id, days=1 + number / 100)
    with db.connect() as connection, connection.begin():
        lock = "SELECT 1 FROM credit_balances WHERE tenant_id = 'busy' FOR UPDATE"
        connection.execute(text(lock))
        while_busy = wallet.sweep_holds(2)

    assert while_busy == {"expired": 6, "passed_over": 3, "finished": True}
    assert wallet.sweep_holds(2)["expired"] == 3
    released = wallet.events(db, "billing.reservation_released")
    assert sorted(event["sequence"] for event in released) == [5, 5, 5, 6, 6, 6, 7, 7, 7]
    wallet.assert_sound()


def test_reservations_are_listed_newest_first_page_by_page(db: Engine) -> None:
    wallet.product("OTHER")
    for product_key in ("CALLS", "OTHER"):
        wallet.grant(10, product_key, product_key=product_key)
    wallet.grant(10, "g", tenant_id="bolt")
    ids = [wallet.hold(1, f"h{number}", day=number / 10) for number in range(3)]
    other = wallet.hold(1, "other", day=0.5, product_key="OTHER")
    bolts = wallet.hold(1, "bolt", day=0.6, tenant_id="bolt")
    wallet.release(ids[1], day=0.7)

    def listed(**wanted: Any) -> list[str]:
        page = list_reservations(**wanted)
        return [str(found["reservation_id"]) for found in page["reservations"]]

    assert listed() == [bolts, other, *reversed(ids)]
    assert listed(tenant_id="acme", product_key="calls") == [*reversed(ids)]
    assert listed(state="released") == [ids[1]]
    first = list_reservations(limit=2)
    assert [found["reservation_id"] for found in first["reservations"]] == [bolts, other]
    assert listed(before=first["next_before"]) == [*reversed(ids)]
    assert list_reservations(limit=6)["next_before"] is None

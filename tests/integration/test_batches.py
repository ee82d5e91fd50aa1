"""Decisions about credit: granted by hand, corrected, taken back, each with a reason and a name."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from models.store import credit_ledger
from tasks import contract
from tasks.adjustments import adjust_credits, grant_credits
from tasks.batches import revoke
from tasks.offer_grants import grant_offer
from tasks.offers import set_offer
from tests.integration import wallet
from tests.integration.test_credit_races import at_once

WHY: Any = {"reason": "goodwill", "actor": "ann"}


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def grant(amount: Any, key: str, *, day: float = 0, **rest: Any) -> Any:
    given = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount), **WHY}
    return grant_credits(**{**given, **rest}, idempotency_key=key, as_of=wallet.at(day))


def adjust(amount: Any, key: str, *, day: float = 1, **rest: Any) -> Any:
    given = {"tenant_id": "acme", "product_key": "CALLS", "amount": str(amount), **WHY}
    return adjust_credits(**{**given, **rest}, idempotency_key=key, as_of=wallet.at(day))


def take_back(key: str, *, day: float = 1, **rest: Any) -> Any:
    given = {"tenant_id": "acme", **WHY}
    return revoke(**{**given, **rest}, idempotency_key=key, as_of=wallet.at(day))


def batches(db: Engine) -> list[tuple[Any, ...]]:
    return wallet.rows(
        db,
        "SELECT state, remaining_amount, held_amount FROM credit_batches ORDER BY created_at, id",
    )


def test_a_grant_by_hand_keeps_its_reason_and_its_actor(db: Engine) -> None:
    answer = grant(10, "g", metadata={"ticket": 7}, expires_at=wallet.at(30))

    assert answer["batch"]["amount"] == "10"
    assert answer["batch"]["expires_at"] == "2026-03-31T12:00:00Z"
    kept = {"ticket": 7, **WHY}
    assert wallet.rows(db, "SELECT source, metadata FROM credit_batches") == [("manual", kept)]
    assert wallet.rows(db, "SELECT action, metadata FROM ledger_entries") == [("grant", kept)]
    (told,) = wallet.events(db)
    assert told["type"] == "billing.credits_granted"
    assert "ann" not in str(told)


def test_a_correction_upwards_is_a_batch(db: Engine) -> None:
    answer = adjust("2.5", "a", expires_at=wallet.at(9))

    assert (answer["adjusted"], answer["amount"], answer["balance"]) == (True, "2.5", "2.5")
    assert answer["batch"]["expires_at"] == "2026-03-10T12:00:00Z"
    assert wallet.rows(db, "SELECT direction, action, metadata FROM ledger_entries") == [
        ("CREDIT", "adjust", WHY)
    ]
    topics = sorted(event["type"] for event in wallet.events(db))
    assert topics == ["billing.credits_adjusted", "billing.credits_granted"]
    wallet.assert_sound()


def test_a_correction_downwards_takes_from_the_oldest(db: Engine) -> None:
    wallet.grant(10, "g1")
    wallet.grant(10, "g2", day=0.5)

    answer = adjust(-15, "a")

    assert answer == {
        "adjusted": True,
        "tenant_id": "acme",
        "product_key": "CALLS",
        "amount": "-15",
        "balance": "5",
        "batch": None,
    }
    debits = "SELECT action, amount, balance_after, cause_type, cause_id, metadata"
    why = ("billing.adjust_credits", "a", WHY)
    assert wallet.rows(
        db, f"{debits} FROM ledger_entries WHERE direction = 'DEBIT' ORDER BY id"
    ) == [("adjust", 10, 10, *why), ("adjust", 5, 5, *why)]
    (told,) = wallet.events(db, "billing.credits_adjusted")
    assert (told["data"]["amount"], told["data"]["balance"]) == ("-15", "5")
    assert wallet.events(db, "billing.quota_consumed") == []
    assert wallet.events(db, "billing.product_deactivated") == []
    wallet.assert_sound()


def test_a_correction_that_takes_the_last_is_told(db: Engine) -> None:
    wallet.grant(10, "g")
    adjust(-10, "a")

    (told,) = wallet.events(db, "billing.product_deactivated")
    assert told["data"]["reason"] == "revoked"


def test_a_correction_of_more_than_there_is_takes_nothing(db: Engine) -> None:
    assert adjust(-1, "a") == {"adjusted": False, "reason": "quota_exhausted", "available": "0"}
    wallet.grant(10, "g")
    assert adjust("-10.5", "b") == {
        "adjusted": False,
        "reason": "insufficient_funds",
        "available": "10",
    }
    assert wallet.ledger(db) == [("CREDIT", "grant", 10, 10)]


@pytest.mark.parametrize(("amount", "done"), [(-10, True), (-11, False)])
def test_a_correction_ends_holds_whose_time_is_over_and_says_so(
    db: Engine, amount: int, done: bool
) -> None:
    wallet.grant(10, "g")
    wallet.hold(10, days=0.5)

    assert adjust(amount, "a")["adjusted"] is done
    assert len(wallet.events(db, "billing.reservation_released")) == 1
    wallet.assert_sound()


def test_what_is_taken_back_is_told_to_who_follows_the_ledger(db: Engine) -> None:
    followed: list[credit_ledger.Entry] = []
    wallet.grant(10, "g1")
    wallet.grant(5, "g2", day=0.1)
    wallet.consume(5, "c", day=0.2)
    credit_ledger.hand_to(followed.extend)
    try:
        take_back("r", source="manual")
    finally:
        credit_ledger.hand_to(None)

    entries = "SELECT id, amount, balance_after FROM ledger_entries WHERE action = 'revoke'"
    assert [(one.id, one.amount, one.balance_after) for one in followed] == wallet.rows(
        db, f"{entries} ORDER BY id"
    )
    assert {(one.action, one.cause.id) for one in followed} == {("revoke", "r")}


def test_corrections_beyond_28_digits_stay_exact(db: Engine) -> None:
    many = "999999999999999999.000000000001"

    assert adjust(many, "up")["amount"] == many
    assert adjust(f"-{many}", "down")["balance"] == "0"
    wallet.assert_sound()


def test_eight_corrections_with_one_key_are_one(db: Engine) -> None:
    wallet.grant(100, "g")

    answers = at_once(8, lambda _: adjust(-7, "same"))

    assert all(answer == answers[0] for answer in answers)
    assert wallet.balance(1)["balance"] == "93"


@pytest.mark.parametrize(
    ("amount", "changed", "code"),
    [
        (-1, {"product_key": "ACCESS"}, "credit.not_counted"),
        (-1, {"expires_at": "2027-01-01"}, "credit.debit_expires"),
        (1, {"expires_at": "2020-01-01"}, "credit.never_valid"),
        (1, {"product_key": "NONE"}, "product.unknown"),
        (-1, {"product_key": "NONE"}, "product.unknown"),
    ],
)
def test_a_correction_that_means_nothing_is_refused_by_name(
    db: Engine, amount: int, changed: dict[str, Any], code: str
) -> None:
    wallet.product("ACCESS", "unlimited")
    wallet.grant(1, "g", product_key="ACCESS")

    with pytest.raises(Refusal) as refused:
        adjust(amount, "a", **changed)

    assert refused.value.code == code


@pytest.mark.parametrize("task", [grant, adjust])
@pytest.mark.parametrize(
    ("field", "value"), [("reason", ""), ("actor", ""), ("reason", None), ("amount", "0")]
)
def test_a_decision_without_reason_actor_or_amount_is_refused(
    db: Engine, task: Any, field: str, value: Any
) -> None:
    amount = value if field == "amount" else 1
    rest = {} if field == "amount" else {field: value}
    with pytest.raises(contract.InvalidMessage, match=field):
        task(amount, "k", **rest)


def test_a_batch_is_taken_back_with_what_is_left_of_it(db: Engine) -> None:
    batch_id = wallet.grant(10, "g1")["batch_id"]
    wallet.grant(10, "g2", day=0.5)
    wallet.consume(4, "c", day=0.6)

    answer = take_back("r", batch_id=batch_id, metadata={"case": 3})

    assert answer == {
        "tenant_id": "acme",
        "batches": [
            {
                "batch_id": batch_id,
                "product_key": "CALLS",
                "amount": "6",
                "held": "0",
                "balance": "10",
            }
        ],
    }
    assert batches(db) == [("REVOKED", 0, 0), ("ACTIVE", 10, 0)]
    kept = "SELECT revoked_reason, revoked_by, closed_at FROM credit_batches"
    assert wallet.rows(db, f"{kept} WHERE state = 'REVOKED'") == [("goodwill", "ann", wallet.at(1))]
    entry = "SELECT direction, amount, cause_type, cause_id, metadata FROM ledger_entries"
    assert wallet.rows(db, f"{entry} WHERE action = 'revoke'") == [
        ("DEBIT", 6, "billing.revoke", "r", {"case": 3, **WHY})
    ]
    (told,) = wallet.events(db, "billing.credits_revoked")
    assert (told["data"]["amount"], told["data"]["balance"]) == ("6", "10")
    assert "goodwill" not in str(told)
    assert wallet.events(db, "billing.product_deactivated") == []
    assert wallet.consume(11, "c2", day=2)["available"] == "10"
    wallet.assert_sound()


def test_all_of_a_source_are_taken_back_in_every_product(db: Engine) -> None:
    wallet.product("SEATS")
    wallet.grant(5, "a", source="promo")
    wallet.grant(5, "b", source="shop", day=0.1)
    wallet.grant(5, "c", source="promo", product_key="SEATS", day=0.2)
    wallet.grant(5, "d", source="promo", day=0.3)
    wallet.grant(5, "e", source="promo", tenant_id="bolt")

    answer = take_back("r", source="promo")

    assert [(one["product_key"], one["balance"]) for one in answer["batches"]] == [
        ("CALLS", "10"),
        ("CALLS", "5"),
        ("SEATS", "0"),
    ]
    assert wallet.balance(1)["balance"] == "5"
    assert wallet.balance(1, tenant_id="bolt")["balance"] == "5"
    (gone,) = wallet.events(db, "billing.product_deactivated")
    assert gone["data"] == {"tenant_id": "acme", "product_key": "SEATS", "reason": "revoked"}
    sequences = [
        (event["data"]["product_key"], event["sequence"])
        for event in wallet.events(db, "billing.credits_revoked")
    ]
    assert sorted(sequences) == [("CALLS", 4), ("CALLS", 5), ("SEATS", 2)]
    wallet.assert_sound()


def test_all_that_one_call_granted_is_taken_back(db: Engine) -> None:
    wallet.product("SEATS")
    items = [{"product_key": key, "quantity": "5"} for key in ("CALLS", "SEATS")]
    set_offer(sku="pack", name="Pack", price="1", currency="EUR", items=items)
    for key in ("one", "two"):
        grant_offer(
            tenant_id="acme", sku="pack", source="shop", idempotency_key=key, as_of=wallet.at(0)
        )

    answer = take_back("r", cause_type="billing.grant_offer", cause_id="one")

    assert [one["balance"] for one in answer["batches"]] == ["5", "5"]
    wallet.assert_sound()


def test_what_is_held_stays_until_its_hold_ends(db: Engine) -> None:
    wallet.grant(4, "g1")
    wallet.grant(10, "g2", day=0.1)
    held = wallet.hold(6, day=0.2, days=6)

    answer = take_back("r", source="manual")

    assert [(one["amount"], one["held"]) for one in answer["batches"]] == [("0", "4"), ("8", "2")]
    assert batches(db) == [("REVOKED", 4, 4), ("REVOKED", 2, 2)]
    assert wallet.balance(1)["balance"] == "6"
    assert wallet.balance(1)["held"] == "6"
    assert wallet.balance(1)["available"] == "0"
    assert wallet.consume(1, "c", day=2)["reason"] == "quota_exhausted"
    wallet.assert_sound()

    # What was used of the hold is paid, and what comes back is written off.
    wallet.commit(held, 5, day=3)

    assert batches(db) == [("REVOKED", 0, 0), ("REVOKED", 0, 0)]
    assert [entry[1:3] for entry in wallet.ledger(db) if entry[1] == "revoke"] == [
        ("revoke", 8),
        ("revoke", 1),
    ]
    wallet.assert_sound()


def test_a_batch_that_is_used_up_is_closed_too_so_nothing_returns_to_it(db: Engine) -> None:
    batch_id = wallet.grant(10, "g")["batch_id"]
    wallet.consume(10, "c")

    answer = take_back("r", batch_id=batch_id)

    assert answer["batches"][0]["amount"] == "0"
    assert batches(db) == [("REVOKED", 0, 0)]
    assert wallet.rows(db, "SELECT revoked_reason FROM credit_batches") == [("goodwill",)]
    assert wallet.events(db, "billing.credits_revoked") == []
    assert len(wallet.events(db, "billing.product_deactivated")) == 1  # by its use
    wallet.assert_sound()


def test_what_has_ended_or_is_anothers_can_not_be_taken_back(db: Engine) -> None:
    expired = wallet.grant(10, "g1", expires_at=0.5)["batch_id"]
    wallet.sweep(0.6)
    revoked = wallet.grant(10, "g2")["batch_id"]
    take_back("r", batch_id=revoked)
    anothers = wallet.grant(10, "g3", tenant_id="bolt")["batch_id"]

    for number, named in enumerate(
        [
            {"batch_id": expired},
            {"batch_id": revoked},
            {"batch_id": anothers},
            {"source": "nobody"},
            {"cause_type": "billing.add_credits", "cause_id": "g3"},
        ]
    ):
        with pytest.raises(Refusal, match="'acme' has no batch") as refused:
            take_back(f"k{number}", **named)
        assert refused.value.code == "batch.none_to_revoke"
    assert len(wallet.events(db, "billing.credits_revoked")) == 1


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"source": "a", "cause_type": "b", "cause_id": "c"},
        {"cause_type": "b"},
        {"cause_id": "b"},
    ],
)
def test_which_batches_must_be_said_in_one_way(db: Engine, named: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="in one way") as refused:
        take_back("r", **named)

    assert refused.value.code == "batch.not_named"


def test_credit_of_the_future_is_taken_back_without_a_word_of_deactivation(db: Engine) -> None:
    wallet.grant(10, "g", valid_from=9)
    take_back("r", source="manual")

    assert len(wallet.events(db, "billing.credits_revoked")) == 1
    assert wallet.events(db, "billing.product_deactivated") == []


def test_taking_back_while_it_is_spent_is_exact(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    wallet.product("SEATS")
    for number in range(10):
        for key in ("CALLS", "SEATS"):
            wallet.grant(
                10, f"{key}{number}", source=f"s{number % 2}", product_key=key, day=number / 100
            )

    def work(thread: int) -> Any:
        if thread < 2:
            return take_back(f"r{thread}", source=f"s{thread}")["batches"]
        key = ("CALLS", "SEATS")[thread % 2]
        return sum(
            wallet.consume(1, f"{thread}-{n}", day=1, product_key=key)["consumed"]
            for n in range(15)
        )

    done = at_once(8, work)

    revoked = sum(Decimal(one["amount"]) for found in done[:2] for one in found)
    left = sum(int(wallet.balance(1, product_key=key)["balance"]) for key in ("CALLS", "SEATS"))
    assert revoked + sum(done[2:]) + left == 200
    assert left == 0
    assert {state for state, _, _ in batches(db)} == {"REVOKED"}
    wallet.assert_sound()

"""Credit at the very instant and to the very unit: on which side of an edge each rule lies."""

from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from models.store import credit_account
from tasks.batches import revoke
from tasks.notices import notify_expiring_credits, notify_low_credits, set_notices
from tests.integration import wallet

OVER = 5
"""The day on which what is about to end ends."""

JUST_BEFORE = OVER - 1 / 86_400


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A product to grant."""
    wallet.product()


def first_batches(day: float) -> list[str]:
    """The ids of the batches that can pay, in the order in which they are read."""
    now = wallet.at(day)
    with database.transaction() as session:
        account = credit_account.lock(session, tenant_id="acme", product_key="CALLS", now=now)
        assert account is not None
        assert account.first is not None
        assert credit_account.usable_batches(session, account, now=now) == list(account.first)
        return [str(batch.id) for batch in account.first]


def revoked(batch_id: str, day: float, key: str = "r") -> Any:
    return revoke(
        tenant_id="acme",
        batch_id=batch_id,
        reason="no",
        actor="ann",
        idempotency_key=key,
        as_of=wallet.at(day),
    )


def deactivated(db: Engine) -> list[str]:
    told = wallet.events(db, "billing.product_deactivated")
    return [one["data"]["reason"] for one in told]


def test_the_database_reads_batches_by_priority_then_expiry_then_age(db: Engine) -> None:
    """What is read first decides, where only the first few are read."""
    wallet.product(burn_policy="soonest_expiry_first")
    ends = {"never": None, "late": 30, "soon": 9, "also late": 30, "first": 40, "last": 6}
    ranks = {"first": -1, "last": 1}
    ids = {
        name: wallet.grant(1, name, day=number, expires_at=at, priority=ranks.get(name, 0))
        for number, (name, at) in enumerate(ends.items())
    }

    order = ["first", "soon", "late", "also late", "never", "last"]
    assert first_batches(5.5) == [str(ids[name]["batch_id"]) for name in order]

    wallet.product(burn_policy="fifo")
    order = ["first", "never", "late", "soon", "also late", "last"]
    assert first_batches(5.5) == [str(ids[name]["batch_id"]) for name in order]


@pytest.mark.parametrize("policy", ["fifo", "soonest_expiry_first"])
def test_credit_begins_at_its_first_instant_and_is_over_at_its_last(
    db: Engine, policy: str
) -> None:
    wallet.product(burn_policy=policy)
    wallet.product("MONTH", "period")
    for key in ("CALLS", "MONTH"):
        wallet.grant(10, key, product_key=key, valid_from=1, expires_at=OVER)

    def use(product_key: str, day: float) -> Any:
        return wallet.consume(1, f"{product_key} {day}", product_key=product_key, day=day)

    for key in ("CALLS", "MONTH"):
        assert use(key, 1 - 1 / 86_400)["consumed"] is False
        assert use(key, 1)["consumed"] is True
        assert use(key, JUST_BEFORE)["consumed"] is True
        assert use(key, OVER)["reason"] == "quota_exhausted"
    assert wallet.balance(1)["available"] == "8"
    assert wallet.balance(OVER)["available"] == "0"


def test_a_hold_that_ends_this_very_instant_has_expired(db: Engine) -> None:
    wallet.grant(10, "g")
    commits, releases, lapses = (
        wallet.hold(2, key, days=OVER, day=0) for key in ("commits", "releases", "lapses")
    )

    assert wallet.balance(JUST_BEFORE)["held"] == "6"
    assert wallet.balance(OVER)["held"] == "0"
    assert wallet.balance(OVER)["available"] == "10"
    assert wallet.commit(commits, 1, day=OVER)["reason"] == "expired"
    assert wallet.release(releases, day=OVER)["reason"] == "expired"
    assert wallet.sweep_holds(OVER)["expired"] == 1
    assert wallet.release(lapses, day=OVER)["reason"] == "expired"
    assert [one["data"]["reason"] for one in wallet.events(db, "billing.reservation_released")] == [
        "expired"
    ] * 3
    wallet.assert_sound()


def test_a_hold_can_be_charged_until_just_before_it_ends(db: Engine) -> None:
    wallet.grant(10, "g")
    held = wallet.hold(10, days=OVER)

    assert wallet.commit(held, 10, day=JUST_BEFORE)["amount"] == "10"
    wallet.assert_sound()


@pytest.mark.parametrize("how", ["consume", "reserve", "deduct"])
def test_who_needs_what_a_hold_gives_back_this_very_instant_gets_it(db: Engine, how: str) -> None:
    wallet.grant(10, "g")
    wallet.hold(10, days=OVER)
    take = {"consume": wallet.consume, "reserve": wallet.reserve, "deduct": wallet.deduct}[how]

    answer = take(10, "taken", day=OVER)

    assert answer[{"consume": "consumed", "reserve": "reserved", "deduct": "deducted"}[how]]
    assert wallet.balance(OVER)["debt"] == "0"
    wallet.assert_sound()


def test_all_that_is_there_can_be_set_aside_and_charged_and_not_a_unit_more(db: Engine) -> None:
    wallet.grant("10.5", "g")

    more = wallet.reserve("10.500000000001", "more")
    assert (more["reason"], more["available"]) == ("insufficient_funds", "10.5")
    held = wallet.hold("10.5")
    assert wallet.reserve("0.000000000001", "none")["reason"] == "quota_exhausted"
    assert wallet.commit(held, "10.5")["amount"] == "10.5"
    assert deactivated(db) == ["exhausted"]


def test_all_of_the_first_look_is_the_last_only_if_nothing_is_behind_it(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.store.credit_account.FIRST_LOOK", 2)
    monkeypatch.setattr("models.store.credit_funds.FIRST_LOOK", 2)
    for number in range(5):
        wallet.grant(1, f"g{number}", day=number / 100)

    assert wallet.consume(2, "two of five", day=1)["consumed"]
    assert deactivated(db) == []
    assert wallet.reserve(1, "one of three", day=1)["available"] == "2"
    assert wallet.consume(2, "the last but a hold", day=1)["consumed"]
    assert deactivated(db) == []
    wallet.assert_sound()


def test_the_last_two_that_fill_the_first_look_are_the_last(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.store.credit_account.FIRST_LOOK", 2)
    monkeypatch.setattr("models.store.credit_funds.FIRST_LOOK", 2)
    for number in range(2):
        wallet.grant(1, f"g{number}", day=number / 100)

    assert wallet.consume(3, "more", day=1)["available"] == "2"
    assert wallet.consume(2, "both", day=1)["balance"] == "0"
    assert deactivated(db) == ["exhausted"]


def test_the_sweep_takes_what_ends_this_very_instant_and_all_of_its_balance(db: Engine) -> None:
    for number in range(3):
        wallet.grant(1, f"g{number}", expires_at=OVER)
    wallet.grant(1, "later", day=0.5, expires_at=OVER + 1)
    wallet.consume(1, "used", day=1)

    assert wallet.sweep(JUST_BEFORE)["expired"] == 0
    assert wallet.sweep(OVER)["expired"] == 2
    assert wallet.rows(db, "SELECT state, count(*) FROM credit_batches GROUP BY 1 ORDER BY 1") == [
        ("ACTIVE", 1),
        ("EXHAUSTED", 1),
        ("EXPIRED", 2),
    ]
    wallet.assert_sound()


def test_the_debt_is_paid_before_anything_is_spent_of_credit_that_has_begun(db: Engine) -> None:
    wallet.deduct(4, "owed")
    wallet.grant(10, "g", valid_from=2)
    assert wallet.balance(1)["debt"] == "4"
    assert wallet.balance(2)["available"] == "6"  # nobody has paid yet

    assert wallet.consume(7, "too much", day=2) == {
        "consumed": False,
        "reason": "insufficient_funds",
        "available": "6",
    }
    assert wallet.consume(6, "rest", day=2)["balance"] == "0"
    assert wallet.balance(2)["debt"] == "0"
    assert [row[1] for row in wallet.ledger(db)][-3:] == ["repay", "repay", "consume"]
    wallet.assert_sound()


def test_a_debt_that_is_met_to_the_unit_leaves_nothing_and_owes_nothing(db: Engine) -> None:
    wallet.deduct(4, "owed")

    assert wallet.grant(4, "g")["repaid"] == "4"
    standing = wallet.balance()
    assert (standing["debt"], standing["available"], standing["balance"]) == ("0", "0", "0")
    wallet.assert_sound()


def test_what_a_hold_gives_back_pays_what_is_owed_first(db: Engine) -> None:
    wallet.grant(10, "g")
    charged, given_back = wallet.hold(6, "charged"), wallet.hold(4, "given back")
    wallet.deduct(5, "owed")

    wallet.commit(charged, 4)
    assert wallet.balance()["debt"] == "3"
    wallet.release(given_back)
    standing = wallet.balance()
    assert (standing["debt"], standing["available"]) == ("0", "1")
    wallet.assert_sound()


def test_a_use_is_given_back_to_the_last_that_paid_it_first(db: Engine) -> None:
    first, second = (wallet.grant(3, f"g{day}", day=day)["batch_id"] for day in (0, 1))
    wallet.consume(5, "used", day=2)

    back = wallet.refund(3, consume_key="used", day=2)

    assert [(one["batch_id"], one["amount"]) for one in back["batches"]] == [
        (second, "2"),
        (first, "1"),
    ]
    wallet.assert_sound()


def test_what_goes_back_to_a_batch_at_the_instant_it_ends_is_lost(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=OVER)
    for key in ("before", "over"):
        wallet.consume(4, key)

    wallet.refund(consume_key="before", key="r1", day=JUST_BEFORE)
    assert wallet.balance(JUST_BEFORE)["available"] == "6"
    wallet.refund(consume_key="over", key="r2", day=OVER)
    assert wallet.balance(OVER)["balance"] == "6"
    assert [row[:3] for row in wallet.ledger(db)][-2:] == [
        ("CREDIT", "refund", 4),
        ("DEBIT", "expire", 4),
    ]
    wallet.assert_sound()


def test_what_a_use_gives_back_to_a_batch_that_was_taken_back_is_taken_back_too(
    db: Engine,
) -> None:
    batch_id = wallet.grant(10, "g", expires_at=OVER)["batch_id"]
    wallet.consume(4, "used")
    revoked(batch_id, day=1)

    wallet.refund(consume_key="used", day=2)

    assert [row[1] for row in wallet.ledger(db)][-2:] == ["refund", "revoke"]
    assert wallet.events(db, "billing.credits_expired") == []
    wallet.assert_sound()


@pytest.mark.parametrize(
    ("day", "told"), [(1, ["revoked"]), (OVER, []), (JUST_BEFORE, ["revoked"])]
)
def test_taking_back_deactivates_what_was_usable_at_that_instant(
    db: Engine, day: float, told: list[str]
) -> None:
    batch_id = wallet.grant(10, "g", valid_from=1, expires_at=OVER)["batch_id"]

    revoked(batch_id, day=day)

    assert deactivated(db) == told


@pytest.mark.parametrize(
    ("other", "told"), [({"valid_from": 2}, []), ({"expires_at": 2}, ["revoked"])]
)
def test_taking_back_looks_for_what_is_usable_besides_at_that_instant(
    db: Engine, other: dict[str, int], told: list[str]
) -> None:
    batch_id = wallet.grant(10, "g")["batch_id"]
    wallet.grant(10, "other", **other)

    revoked(batch_id, day=2)

    assert deactivated(db) == told


def want(**wanted: Any) -> None:
    set_notices(tenant_id="acme", product_key="CALLS", as_of=wallet.at(0), **wanted)


def lows(db: Engine, day: float) -> list[str]:
    notify_low_credits(as_of=wallet.at(day))
    told = wallet.events(db, "billing.low_credits")
    return [one["data"]["available"] for one in told]


def test_credit_is_low_at_its_threshold_and_told_once_while_it_stays_there(db: Engine) -> None:
    wallet.grant(10, "g")
    want(low=["6"])
    wallet.consume("3.9", "a")
    assert lows(db, 0) == []
    wallet.consume("0.1", "b")
    assert lows(db, 0) == ["6"]
    wallet.consume(1, "c")
    wallet.grant(1, "back to the threshold")
    assert lows(db, 0) == ["6"]
    wallet.consume(1, "from the threshold")
    assert lows(db, 0) == ["6"]


def test_credit_is_low_at_the_very_instant_that_time_makes_it_so(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=OVER)
    want(low=["6"])

    assert lows(db, JUST_BEFORE) == []
    assert lows(db, OVER) == ["0"]


def test_credit_is_back_at_the_very_instant_that_it_begins_or_a_hold_ends(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.grant(10, "begins", valid_from=2)
    want(low=["6", "15"])
    wallet.hold(5, days=3, day=1)
    assert lows(db, 1) == ["5"]
    assert lows(db, 2) == ["5"]  # 15: at the upper threshold, where it came from below
    assert lows(db, 4) == ["5"]
    wallet.consume(15, "both", day=4)
    assert lows(db, 4) == ["5", "5", "5"]


def ahead(db: Engine, day: float) -> list[int]:
    notify_expiring_credits(as_of=wallet.at(day))
    return [one["data"]["days"] for one in wallet.events(db, "billing.expiring_credits")]


def test_a_batch_is_told_of_from_the_very_instant_and_not_when_it_is_over(db: Engine) -> None:
    want(expiring_days=[3, 2])
    wallet.grant(10, "g", expires_at=OVER)
    wallet.grant(10, "over unseen", expires_at=OVER - 1)

    assert ahead(db, 1 - 1 / 86_400) == []
    assert ahead(db, 1) == [3]
    assert sorted(ahead(db, 2)) == [2, 3, 3]
    assert sorted(ahead(db, OVER)) == [2, 3, 3]


def test_a_batch_is_not_told_of_when_it_is_over(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=OVER)
    want(expiring_days=[3])

    assert ahead(db, OVER) == []


def test_a_batch_that_has_just_so_many_days_when_it_comes_is_told_of_by_them(db: Engine) -> None:
    want(expiring_days=[OVER])
    wallet.grant(10, "just", expires_at=OVER)
    wallet.grant(10, "less", day=1 / 86_400, expires_at=OVER)

    assert ahead(db, 1) == [OVER]


def test_consuming_with_a_used_key_is_no_use_whatever_has_ended_since(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=OVER)
    before = wallet.consume(10, "once", day=1)

    assert wallet.consume(10, "once", day=OVER) == before
    assert [row[1] for row in wallet.ledger(db)] == ["grant", "consume"]

"""Expiry: nothing is spent too late, what is left goes once, and everybody is told once."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, Row, text

from models import database
from models.rules import ids
from tasks.announce import announce
from tasks.credit_upkeep import expire_batches
from tests.integration import wallet
from webhooks import events


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def test_expired_credit_is_never_spent_even_if_nobody_swept(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=5)

    assert wallet.consume(1, "in time", day=4.999)["consumed"] is True
    assert wallet.consume(1, "late", day=5)["reason"] == "quota_exhausted"
    assert wallet.balance(5)["available"] == "0"


def test_ninety_of_a_hundred_spent_then_ten_expire(db: Engine) -> None:
    batch_id = wallet.grant(100, "g", expires_at=5)["batch_id"]
    wallet.consume(90, "c", day=1)

    answer = wallet.sweep(5)

    assert answer == {"expired": 1, "passed_over": 0, "finished": True}
    assert wallet.ledger(db)[-1] == ("DEBIT", "expire", 10, 0)
    batch = "SELECT state, remaining_amount, closed_at FROM credit_batches"
    assert wallet.rows(db, batch) == [("EXPIRED", 0, wallet.at(5))]
    (event,) = wallet.events(db, "billing.credits_expired")
    assert event["data"] == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "batch_id": batch_id,
        "amount": "10",
        "balance": "0",
        "expires_at": "2026-03-06T12:00:00Z",
    }
    (deactivated,) = wallet.events(db, "billing.product_deactivated")
    assert deactivated["data"]["reason"] == "expired"
    wallet.assert_sound()


def test_sweeping_twice_expires_once(db: Engine) -> None:
    wallet.grant(10, "g", expires_at=5)
    wallet.sweep(6)
    again = wallet.sweep(7)

    assert again == {"expired": 0, "passed_over": 0, "finished": True}
    assert len(wallet.events(db, "billing.credits_expired")) == 1
    assert len(wallet.events(db, "billing.product_deactivated")) == 1


def test_what_is_not_over_or_already_spent_stays(db: Engine) -> None:
    wallet.grant(10, "g1", expires_at=5)
    wallet.consume(10, "c")
    wallet.grant(10, "g2", expires_at=6)
    wallet.grant(10, "g3")

    assert wallet.sweep(5.999)["expired"] == 0
    assert wallet.balance(5)["balance"] == "20"


def test_many_batches_of_one_balance_end_one_after_the_other(db: Engine) -> None:
    for n in range(4):
        wallet.grant(n + 1, f"g{n}", expires_at=8 - n)
    wallet.sweep(9)

    assert wallet.ledger(db)[4:] == [
        ("DEBIT", "expire", 4, 6),
        ("DEBIT", "expire", 3, 3),
        ("DEBIT", "expire", 2, 1),
        ("DEBIT", "expire", 1, 0),
    ]
    told = wallet.events(db, "billing.credits_expired")
    assert [(event["data"]["amount"], event["sequence"]) for event in told] == [
        ("4", 5),
        ("3", 6),
        ("2", 7),
        ("1", 8),
    ]
    wallet.assert_sound()


def test_the_sweep_goes_on_until_nothing_is_due(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.credit_upkeep.EXPIRY_CHUNK", 4)
    for n in range(18):
        wallet.grant(1, f"g{n}", tenant_id=f"t{n % 3}", expires_at=1 + n / 100)

    assert wallet.sweep(5) == {"expired": 18, "passed_over": 0, "finished": True}
    assert len(wallet.events(db, "billing.product_deactivated")) == 3
    wallet.assert_sound()


def test_a_sweep_whose_time_is_up_says_so(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet.grant(1, "g", expires_at=1)
    monkeypatch.setattr("tasks.credit_upkeep.EXPIRY_SECONDS", 0.0)

    assert wallet.sweep(5) == {"expired": 0, "passed_over": 0, "finished": False}


def test_a_balance_in_use_is_passed_over_and_the_others_are_not(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.credit_upkeep.EXPIRY_CHUNK", 2)
    for n in range(5):
        wallet.grant(1, f"busy{n}", tenant_id="busy", expires_at=1)
    wallet.grant(1, "free", tenant_id="free", expires_at=2)
    with db.connect() as connection, connection.begin():
        lock = "SELECT 1 FROM credit_balances WHERE tenant_id = 'busy' FOR UPDATE"
        connection.execute(text(lock))
        while_busy = wallet.sweep(5)

    assert while_busy == {"expired": 1, "passed_over": 5, "finished": True}
    assert wallet.sweep(5)["expired"] == 5
    wallet.assert_sound()


def test_held_credit_outlives_expiry(db: Engine) -> None:
    wallet.grant(10, "g1", expires_at=5)
    wallet.grant(3, "g2", expires_at=5, tenant_id="all held")
    wallet.hold(4, days=7)
    wallet.hold(3, days=7, tenant_id="all held")
    wallet.sweep(6)

    batches = "SELECT tenant_id, state, remaining_amount, held_amount FROM credit_batches"
    assert sorted(wallet.rows(db, batches)) == [
        ("acme", "EXPIRED", 4, 4),
        ("all held", "EXPIRED", 3, 3),
    ]
    assert wallet.ledger(db)[2:] == [("DEBIT", "expire", 6, 4)]
    assert len(wallet.events(db, "billing.credits_expired")) == 1
    wallet.assert_sound()


def test_who_has_credit_left_is_not_deactivated(db: Engine) -> None:
    wallet.grant(1, "g1", expires_at=5)
    wallet.grant(1, "g2", expires_at=9)
    wallet.sweep(6)

    assert wallet.events(db, "billing.product_deactivated") == []
    wallet.sweep(10)
    assert len(wallet.events(db, "billing.product_deactivated")) == 1


def test_credit_that_was_over_when_the_last_was_spent_deactivates_once(db: Engine) -> None:
    wallet.grant(1, "over", expires_at=5)
    wallet.grant(1, "spent")
    wallet.consume(1, "c2", day=6)
    wallet.grant(1, "g", day=6, expires_at=7)
    wallet.consume(1, "c3", day=6)
    wallet.sweep(8)

    told = wallet.events(db, "billing.product_deactivated")
    assert [event["data"]["reason"] for event in told] == ["exhausted", "exhausted"]


def test_credit_that_came_and_went_after_the_last_was_spent_deactivates_again(db: Engine) -> None:
    wallet.grant(1, "later", valid_from=5, expires_at=7)
    wallet.grant(1, "now")
    wallet.consume(1, "c", day=1)
    wallet.sweep(8)

    told = wallet.events(db, "billing.product_deactivated")
    assert [event["data"]["reason"] for event in told] == ["exhausted", "expired"]


def test_a_long_sweep_is_planned_for_each_of_its_chunks(
    db: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prepared statement's one plan for all would join thousands of rows one by one."""
    database.configure(database.Options(url=database_url, pool_size=1))
    monkeypatch.setattr("tasks.credit_upkeep.EXPIRY_CHUNK", 1)
    for number in range(18):
        wallet.grant(1, f"g{number}", tenant_id=f"t{number}", expires_at=1)

    assert wallet.sweep(2)["expired"] == 18

    prepared = "SELECT count(*) FILTER (WHERE statement LIKE '%INSERT INTO credit_batches%')"
    closing = "count(*) FILTER (WHERE statement LIKE '%SET remaining_amount = batch.held_amount%')"
    both = f"{prepared}, {closing} FROM pg_prepared_statements"
    assert wallet.rows(database.engine(), both) == [(1, 0)]


def test_others_of_a_balance_go_with_the_one_that_the_walk_came_by(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.credit_upkeep.EXPIRY_CHUNK", 1)
    monkeypatch.setattr("models.store.credit_expiry.MOST_BESIDE", 3)
    for n in range(9):
        wallet.grant(1, f"g{n}", expires_at=1 + n / 100)
    wallet.grant(1, "later", expires_at=8)
    wallet.grant(1, "spent last", expires_at=1.001, priority=5)

    assert wallet.sweep(5) == {"expired": 10, "passed_over": 0, "finished": True}

    # Three, then the one that is spent last with three beside it, then three.
    writes = "SELECT count(DISTINCT xmin::text) FROM ledger_entries WHERE action = 'expire'"
    assert wallet.rows(db, writes) == [(3,)]
    assert wallet.balance(5)["balance"] == "1"
    wallet.assert_sound()


def test_what_the_database_tells_of_is_byte_for_byte_what_python_would(db: Engine) -> None:
    tenants = ["acme", 'say "hi"\\', "Ünïcode · 料金 · 🎟", "/<script>&amp;"]
    amounts = ["10", "0.5", "100", "0.000000000001", "123456789012345678.123456789"]
    for number, tenant_id in enumerate(tenants):
        for nth, amount in enumerate(amounts):
            key = f"{number}-{nth}"
            ends = 1 + (nth - 2) / 86_400 / 1000
            wallet.grant(amount, key, tenant_id=tenant_id, day=nth / 100, expires_at=ends)
    wallet.hold("0.25", tenant_id="acme", day=0.5, days=7)  # of the oldest, which is larger
    at = wallet.at(5.000001)

    expire_batches(as_of=at)

    found = told_at(db, at)
    assert len(found) == len(tenants) * (len(amounts) + 1)
    for row in found:
        # The model takes no field that it does not know, and the published schema is made of it.
        event = events.CATALOGUE[row.type].model_validate(orjson.loads(row.body)["data"])
        written = events.serialise(
            event,
            message_id=ids.event_id(row.id),
            tenant_id=row.tenant_id,
            sequence=row.sequence,
            timestamp=at,
        )
        assert (row.body, row.truncated) == (written.content, written.truncated)
        assert row.schema_version == event.schema_version


def test_what_a_sweep_tells_is_heard_in_order_and_before_what_is_said_later(db: Engine) -> None:
    for number in range(40):
        wallet.grant(number + 1, f"g{number}", tenant_id=f"t{number % 3}", expires_at=1)
    now = wallet.at(2)
    with database.transaction() as session:
        event = events.ProductDeactivated(tenant_id="t0", product_key="CALLS", reason="expired")
        before = announce(session, event, tenant_id="t0", sequence=0, now=now)

    expire_batches(as_of=now)

    with database.transaction() as session:
        after = announce(session, event, tenant_id="t0", sequence=99, now=now)
    told = told_at(db, now)
    assert (ids.event_id(told[0].id), ids.event_id(told[-1].id)) == (before, after)
    expired, depleted = told[1:41], told[41:-1]
    assert {row.type for row in expired} == {"billing.credits_expired"}
    places = [(row.tenant_id, row.sequence) for row in expired]
    assert places == sorted(places)
    assert [row.tenant_id for row in depleted] == ["t0", "t1", "t2"]


def told_at(db: Engine, now: dt.datetime) -> Sequence[Row[Any]]:
    """The events of one instant, in the order in which they are heard."""
    told = text("SELECT * FROM outbox_messages WHERE created_at = :now ORDER BY id")
    with db.connect() as connection:
        return connection.execute(told, {"now": now}).all()

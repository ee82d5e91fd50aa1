"""What hot paths leave out is not missed: no ping, no wrapping by SQLAlchemy, no event too many."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError

from models import database, failures, hot
from models.store import credit, credit_spending, ending, inbox, recordset
from tasks.announce import announce
from tasks.merging import merge_customers
from tests.integration import wallet
from tests.processes import eventually
from webhooks import events

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

ME = "SELECT pg_backend_pid()"


def end(database_url: str, pid: int) -> None:
    """End a connection from the server's side, and wait until it has."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_a_connection_that_ended_while_it_lay_idle_is_replaced(
    db: Engine, database_url: str
) -> None:
    database.configure(database.Options(url=database_url, pool_size=1))
    with database.transaction() as session:
        before = session.scalars(text(ME)).one()
    end(database_url, before)

    with database.transaction() as session:
        assert session.scalars(text(ME)).one() != before


def test_a_connection_that_is_lost_in_mid_transaction_is_told_and_replaced(
    db: Engine, database_url: str
) -> None:
    database.configure(database.Options(url=database_url, pool_size=1))
    with database.transaction() as session:
        ((pid,),) = hot.execute(session, hot.statement(ME), {})

    def lose() -> None:
        with database.transaction() as session:
            assert hot.execute(session, hot.statement(ME), {}) == [(pid,)]
            end(database_url, pid)
            hot.execute(session, hot.statement(ME), {})

    with pytest.raises(DBAPIError) as lost:
        lose()

    assert failures.is_unreachable(lost.value)
    with database.transaction() as session:
        assert hot.execute(session, hot.statement(ME), {}) != [(pid,)]


def test_an_error_of_the_driver_is_wrapped_and_quotes_no_value(db: Engine) -> None:
    asked = hot.statement("SELECT CAST(:given AS integer), '50%', now()::date")
    with pytest.raises(DataError) as refused, database.transaction() as session:
        hot.execute(session, asked, {"given": "a secret"})

    assert failures.is_refused_value(refused.value)
    assert "secret" not in str(refused.value)
    assert "secret" not in str(refused.value.__cause__)


def test_a_statement_on_the_driver_is_heard_by_who_listens(db: Engine) -> None:
    heard = []

    def listen(*heard_of: object) -> None:
        heard.append(heard_of[2])

    event.listen(database.engine(), "before_cursor_execute", listen)
    try:
        with database.transaction() as session:
            assert hot.execute(session, hot.statement("SELECT :a || '%'"), {"a": "1"}) == [("1%",)]
    finally:
        event.remove(database.engine(), "before_cursor_execute", listen)

    assert heard == ["SELECT %(a)s || '%%'"]


def test_events_wait_for_the_answer_but_not_those_of_a_savepoint_that_was_undone(
    db: Engine,
) -> None:
    call = inbox.Call(tenant_id="acme", operation="o", key="k", request_hash=b"")
    now = wallet.at(1)
    told = [
        events.ProductDeactivated(tenant_id="acme", product_key=key, reason="revoked")
        for key in ("KEPT", "UNDONE", "LAST", "AFTER")
    ]
    with database.transaction() as session:
        assert inbox.find_answer(session, call, now=now) is None
        ending.gather(session)
        announce(session, told[0], tenant_id="acme", sequence=1, now=now)
        with contextlib.suppress(ZeroDivisionError), database.savepoint(session):
            announce(session, told[1], tenant_id="acme", sequence=2, now=now)
            raise ZeroDivisionError
        announce(session, told[2], tenant_id="acme", sequence=3, now=now)
        assert session.scalars(text("SELECT count(*) FROM outbox_messages")).one() == 0
        inbox.keep_answer(session, call, {"done": True})
        announce(session, told[3], tenant_id="acme", sequence=4, now=now)

    kept = [one["data"]["product_key"] for one in wallet.events(db)]
    assert kept == ["KEPT", "LAST", "AFTER"]
    waiting = "SELECT count(*) FROM outbox_pending"
    assert wallet.rows(db, waiting) == [(3,)]
    with database.transaction() as session:
        assert inbox.find_answer(session, call, now=now) == {"done": True}


def statements(run: Callable[[], object]) -> list[str]:
    """What SQL a call runs, apart from BEGIN and COMMIT."""
    heard: list[str] = []

    def listen(*heard_of: Any) -> None:
        heard.append(heard_of[2])

    event.listen(database.engine(), "before_cursor_execute", listen)
    try:
        run()
    finally:
        event.remove(database.engine(), "before_cursor_execute", listen)
    return heard


def test_a_use_of_credit_is_two_statements_and_the_same_use_again_is_two(db: Engine) -> None:
    wallet.product()
    wallet.grant(10, "g")

    assert len(statements(lambda: wallet.consume(3, "u", day=1))) == 2
    assert len(statements(lambda: wallet.consume(3, "u", day=1))) == 2
    assert wallet.balance()["balance"] == "7"
    wallet.assert_sound()


@pytest.mark.parametrize("batches", [1, recordset.FEW, recordset.FEW + 1])
def test_a_hold_is_two_statements_whatever_it_sets_aside(db: Engine, batches: int) -> None:
    wallet.product()
    for number in range(batches):
        wallet.grant(number + 1, f"g{number}", day=number)
    total = batches * (batches + 1) // 2

    assert len(statements(lambda: wallet.reserve(total, "h", day=batches))) == 2
    assert len(statements(lambda: wallet.reserve(total, "h", day=batches))) == 2
    assert wallet.rows(db, "SELECT nth, amount FROM reservation_slices ORDER BY nth") == [
        (number + 1, number + 1) for number in range(batches)
    ]
    assert wallet.balance(batches)["held"] == str(total)
    wallet.assert_sound()


def test_who_comes_again_with_a_used_key_waits_for_nobody(impatient: Engine) -> None:
    """The account is locked as the key is claimed, but only for who gets it."""
    wallet.product()
    wallet.grant(10, "g")
    used, held = wallet.consume(3, "u", day=1), wallet.reserve(2, "h", day=1)

    with impatient.connect() as connection, connection.begin():
        connection.execute(text("SELECT 1 FROM credit_balances FOR UPDATE"))
        assert wallet.consume(3, "u", day=1) == used
        assert wallet.reserve(2, "h", day=1) == held


def test_a_use_under_the_name_of_an_alias_is_two_statements_too(db: Engine) -> None:
    wallet.product()
    wallet.grant(10, "g")
    wallet.grant(5, "g2", tenant_id="old")
    merge_customers(source="old", target="acme", idempotency_key="m", as_of=wallet.at(1))

    assert len(statements(lambda: wallet.consume(12, "u", tenant_id="old", day=2))) == 2
    assert wallet.balance()["balance"] == "3"
    wallet.assert_sound()


@pytest.mark.parametrize("batches", [1, recordset.FEW, recordset.FEW + 1, 3 * recordset.FEW])
def test_a_use_takes_from_any_number_of_batches_in_order(db: Engine, batches: int) -> None:
    wallet.product()
    for number in range(batches):
        wallet.grant(number + 1, f"g{number}", day=number)
    total = batches * (batches + 1) // 2

    wallet.consume(total, "u", day=batches)

    taken = [row for row in wallet.ledger(db) if row[1] == "consume"]
    left = [total - (n + 1) * (n + 2) // 2 for n in range(batches)]
    assert taken == [("DEBIT", "consume", n + 1, left[n]) for n in range(batches)]
    wallet.assert_sound()


def test_a_use_that_waits_for_its_end_in_a_savepoint_that_was_undone_did_not_happen(
    db: Engine,
) -> None:
    wallet.product()
    wallet.grant(10, "g")
    call = inbox.Call(tenant_id="acme", operation="o", key="k", request_hash=b"")
    with database.transaction() as session:
        inbox.find_answer(session, call, now=wallet.at(1))
        ending.gather(session)
        with contextlib.suppress(ZeroDivisionError), database.savepoint(session):
            spend(session, "undone", 5, ends=True)
            raise ZeroDivisionError
        spend(session, "kept", 3, ends=True)
        assert wallet.rows(db, "SELECT balance FROM credit_balances") == [(10,)]
        inbox.keep_answer(session, call, {})

    assert [row[:3] for row in wallet.ledger(db)] == [
        ("CREDIT", "grant", 10),
        ("DEBIT", "consume", 3),
    ]
    wallet.assert_sound()


def test_a_use_that_waited_for_another_spends_what_that_one_left(db: Engine) -> None:
    """Its first look, which came with the claim of its key, is older than its lock."""
    wallet.product()
    wallet.grant(10, "g")
    with ThreadPoolExecutor(1) as waiting:
        with database.transaction() as session:
            spend(session, "first", 4)
            late = waiting.submit(wallet.consume, 7, "late", day=1)
            eventually(lambda: wallet.rows(db, WAITING) == [(1,)])

        assert late.result(timeout=30) == {
            "consumed": False,
            "reason": "insufficient_funds",
            "available": "6",
        }
    assert wallet.consume(6, "rest", day=1)["consumed"]
    wallet.assert_sound()


def spend(session: database.Session, key: str, amount: int, *, ends: bool = False) -> None:
    debit = credit_spending.Debit(
        tenant_id="acme",
        product_key="CALLS",
        amount=Decimal(amount),
        cause=credit.Cause("test", key),
        details={},
    )
    credit_spending.consume(session, debit, now=wallet.at(1), ends=ends)

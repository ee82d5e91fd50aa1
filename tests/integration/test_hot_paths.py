"""What hot paths leave out is not missed: no ping, no wrapping by SQLAlchemy, no event too many."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError

from models import database, failures, hot
from models.credit import CreditBalance
from models.store import credit, credit_spending, ending, inbox, recordset, reservation_hold
from tasks.announce import announce
from tasks.merging import merge_customers
from tests.integration import wallet
from tests.processes import eventually
from webhooks import events

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

ASLEEP = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'PgSleep'
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


def prepared(asked: hot.Statement, **parameters: object) -> None:
    """Run a statement until the driver has prepared it on the only connection there is."""
    for _ in range(8):
        with database.transaction() as session:
            hot.execute(session, asked, parameters)


@pytest.fixture
def alone(db: Engine, database_url: str) -> Iterator[None]:
    """One connection."""
    database.configure(database.Options(url=database_url, pool_size=1))
    yield
    database.dispose()


def messages(run: Callable[[], object], path: Path) -> list[str]:
    """What is said to the server, after which it answers, on the only connection there is."""
    with database.transaction() as session:
        server = session.connection().connection.driver_connection.pgconn  # type: ignore[union-attr]
    with path.open("w") as told:
        server.trace(told.fileno())
        try:
            run()
        finally:
            server.untrace()
    said = [line.split("\t") for line in path.read_text().splitlines()]
    return [one[3].split()[0] for one in said if one[1] == "F" and one[3][:4] in {"Sync", "Quer"}]


@pytest.mark.usefixtures("alone")
def test_a_use_of_credit_is_two_messages_to_the_server_with_its_begin_and_its_commit(
    tmp_path: Path,
) -> None:
    wallet.product()
    wallet.grant(100, "g")
    for number in range(8):
        wallet.consume(1, f"u{number}", day=1)
        held = wallet.hold(2, f"h{number}", day=1)
        wallet.commit(held, 1, day=1)
    held = wallet.hold(2, day=1)

    trace = tmp_path / "trace"
    assert messages(lambda: wallet.consume(1, "u", day=1), trace) == ["Sync", "Sync"]
    assert messages(lambda: wallet.reserve(1, "more", day=1), trace) == ["Sync", "Sync"]
    assert messages(lambda: wallet.commit(held, 1, day=1), trace) == ["Sync", "Sync"]
    assert wallet.balance(1)["balance"] == str(100 - 8 - 8 - 2)
    wallet.assert_sound()


@pytest.mark.usefixtures("alone")
def test_an_error_that_comes_with_the_begin_is_told_and_spoils_no_connection() -> None:
    asked = hot.statement("SELECT 1 / CAST(:by AS integer), pg_backend_pid()")
    prepared(asked, by=1)
    with database.transaction() as session:
        ((_, pid),) = hot.execute(session, asked, {"by": 1})

    def divide(*numbers: int) -> None:
        with database.transaction() as session:
            for number in numbers:
                hot.execute(session, asked, {"by": number})

    for numbers in ((0,), (1, 0)):
        with pytest.raises(DataError):
            divide(*numbers)

    with database.transaction() as session:
        assert hot.execute(session, asked, {"by": 1}) == [(1, pid)]


@pytest.mark.usefixtures("alone")
def test_a_last_statement_that_fails_undoes_the_transaction() -> None:
    asked = hot.statement(
        "WITH one AS (INSERT INTO tenants (tenant_id) VALUES (:tenant)) SELECT 1 / :by::integer"
    )
    for number in range(8):
        with database.transaction() as session:
            hot.leave_last(session, asked, {"tenant": f"t{number}", "by": 1})
    told: list[str] = []

    def fail() -> None:
        with database.transaction() as session:
            session.execute(text("INSERT INTO tenants (tenant_id) VALUES ('before')"))
            database.after_commit(session, "told", lambda: told.append("committed"))
            hot.leave_last(session, asked, {"tenant": "never", "by": 0})

    with pytest.raises(DataError):
        fail()

    assert told == []
    assert wallet.rows(database.engine(), "SELECT tenant_id FROM tenants ORDER BY 1") == [
        (f"t{number}",) for number in range(8)
    ]
    with database.transaction() as session:
        hot.leave_last(session, asked, {"tenant": "after", "by": 1})
    assert len(wallet.rows(database.engine(), "SELECT FROM tenants")) == 9


def test_what_was_left_for_the_commit_of_a_transaction_that_fails_is_never_written(
    db: Engine,
) -> None:
    asked = hot.statement("INSERT INTO tenants (tenant_id) VALUES (:tenant)")
    with contextlib.suppress(ZeroDivisionError), database.transaction() as session:
        hot.leave_last(session, asked, {"tenant": "never"})
        raise ZeroDivisionError

    with database.transaction() as session:
        session.execute(text("INSERT INTO tenants (tenant_id) VALUES ('other')"))
    assert wallet.rows(db, "SELECT tenant_id FROM tenants") == [("other",)]


def test_what_was_left_for_the_commit_comes_before_objects_that_were_not_written_yet(
    db: Engine,
) -> None:
    wallet.product()
    asked = hot.statement("INSERT INTO tenants (tenant_id) VALUES (:tenant)")
    with database.transaction() as session:
        hot.leave_last(session, asked, {"tenant": "acme"})
        session.add(CreditBalance(tenant_id="acme", product_key="CALLS", updated_at=wallet.at(0)))

    assert wallet.rows(db, "SELECT tenant_id FROM credit_balances") == [("acme",)]


class OutOfTime(Exception):
    """Somebody does not wait any longer."""


@pytest.mark.usefixtures("alone")
def test_who_is_interrupted_while_the_server_works_is_told_so_and_leaves_nothing_behind(
    database_url: str,
) -> None:
    asked = hot.statement("SELECT pg_sleep(:seconds::float), pg_backend_pid()")
    prepared(asked, seconds=0)

    def interrupt(*_: object) -> None:
        raise OutOfTime

    def wake() -> None:
        with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
            eventually(lambda: connection.execute(ASLEEP).fetchone() == (1,))
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor(1) as beside:
            beside.submit(wake)
            with pytest.raises(OutOfTime), database.transaction() as session:
                hot.execute(session, asked, {"seconds": 60})
    finally:
        signal.signal(signal.SIGALRM, before)

    with database.transaction() as session:
        assert len(hot.execute(session, asked, {"seconds": 0})) == 1


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


@pytest.mark.parametrize("batches", [1, recordset.FEW, recordset.FEW + 1])
def test_a_commit_of_a_hold_is_two_statements_whatever_it_set_aside(
    db: Engine, batches: int
) -> None:
    wallet.product()
    for number in range(batches):
        wallet.grant(2, f"g{number}", day=number)
    wallet.grant(1, "more", day=batches)
    held = wallet.hold(2 * batches, day=batches)

    assert len(statements(lambda: wallet.commit(held, 1, day=batches))) == 2
    assert len(statements(lambda: wallet.commit(held, 1, day=batches))) == 2
    assert wallet.balance(batches)["available"] == str(2 * batches)
    wallet.assert_sound()


def test_a_release_of_a_hold_is_three_statements(db: Engine) -> None:
    wallet.product()
    wallet.grant(10, "g")
    held = wallet.hold(6)

    assert len(statements(lambda: wallet.release(held))) == 3
    assert wallet.balance()["available"] == "10"
    wallet.assert_sound()


def test_a_commit_of_a_hold_of_a_tenant_that_became_part_of_another_is_two_statements_too(
    db: Engine,
) -> None:
    wallet.product()
    wallet.grant(10, "g", tenant_id="old")
    wallet.grant(1, "g2")
    held = wallet.hold(6, tenant_id="old")
    merge_customers(source="old", target="acme", idempotency_key="m", as_of=wallet.at(0.1))

    assert len(statements(lambda: wallet.commit(held, 5, day=0.2))) == 2
    assert wallet.balance()["balance"] == "6"
    wallet.assert_sound()


def test_a_commit_of_a_hold_that_waited_for_a_use_sees_what_that_one_left(db: Engine) -> None:
    """What it set aside was read with the claim of its key, and is older than its lock."""
    wallet.product()
    wallet.grant(10, "g")
    held = wallet.hold(6, days=5)
    with ThreadPoolExecutor(1) as waiting:
        with database.transaction() as session:
            spend(session, "first", 4)
            late = waiting.submit(wallet.commit, held, day=0.5)
            eventually(lambda: wallet.rows(db, WAITING) == [(1,)])

        assert late.result(timeout=30)["balance"] == "0"
    assert len(wallet.events(db, "billing.product_deactivated")) == 1
    wallet.assert_sound()


def test_a_commit_of_a_hold_that_waited_for_its_release_finds_it_released(db: Engine) -> None:
    wallet.product()
    wallet.grant(10, "g")
    held = wallet.hold(6)
    with ThreadPoolExecutor(1) as waiting:
        with database.transaction() as session:
            reservation_hold.release(session, UUID(held), reason=None, now=wallet.at(0.5))
            late = waiting.submit(wallet.commit, held, day=0.5)
            eventually(lambda: wallet.rows(db, WAITING) == [(1,)])

        assert late.result(timeout=30)["reason"] == "released"
    assert wallet.balance()["available"] == "10"
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

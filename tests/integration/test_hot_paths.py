"""What hot paths leave out is not missed: no ping, no wrapping by SQLAlchemy, no event too many."""

import contextlib

import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError

from models import database, hot
from models.store import ending, inbox
from tasks.announce import announce
from tests.integration import wallet
from webhooks import events

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
        end(database_url, pid)
        with pytest.raises(DBAPIError) as lost:
            hot.execute(session, hot.statement(ME), {})
        session.rollback()

    assert database.is_unreachable(lost.value)
    with database.transaction() as session:
        assert hot.execute(session, hot.statement(ME), {}) != [(pid,)]


def test_an_error_of_the_driver_is_wrapped_and_quotes_no_value(db: Engine) -> None:
    asked = hot.statement("SELECT CAST(:given AS integer), '50%', now()::date")
    with pytest.raises(DataError) as refused, database.transaction() as session:
        hot.execute(session, asked, {"given": "a secret"})

    assert database.is_refused_value(refused.value)
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

"""What the database itself refuses of lines and subscriptions, whoever writes them."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, NotSupportedError

from models import database
from models.rules import billing
from models.rules.waterfall import Bill
from models.store import invoice_line, line_rows
from tasks.invoice_runs import generate_invoices
from tests.integration.billing_world import fee, instant, make_plan, query, subscribe
from tests.integration.waiting import until_somebody_waits

COPY = """
    INSERT INTO invoice_lines (invoice_id, position, kind, subscription_id, price_id,
                               adjusts_invoice_id, description, quantity, currency, amount_minor,
                               period_start, period_end)
    SELECT coalesce(said.invoice_id, line.invoice_id), 100 + position,
           CASE WHEN said.adjusts_invoice_id IS NULL THEN kind ELSE 'adjustment' END,
           coalesce(said.subscription_id, line.subscription_id),
           coalesce(said.price_id, line.price_id), said.adjusts_invoice_id, description, quantity,
           currency, amount_minor, period_start, period_end
    FROM invoice_lines AS line, (
        SELECT CAST(:invoice_id AS uuid) AS invoice_id, CAST(:price_id AS uuid) AS price_id,
               CAST(:subscription_id AS uuid) AS subscription_id,
               CAST(:adjusts_invoice_id AS uuid) AS adjusts_invoice_id
    ) AS said
"""
NAMED = ("invoice_id", "subscription_id", "price_id", "adjusts_invoice_id")

SUBSCRIBE = """
    INSERT INTO subscriptions (id, tenant_id, plan_key, currency, effective_at, ended_at,
                               anchored_on)
    VALUES (:id, 'acme', 'pro', 'USD', :effective_at, :ended_at, '2026-01-01')
"""


def draft() -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=instant("2026-02-02"))


def execute(statement: str, **parameters: Any) -> None:
    with database.transaction() as session:
        session.execute(text(statement), parameters)


def test_a_line_names_nothing_that_is_not_there(db: Engine) -> None:
    draft()
    before = query("SELECT * FROM invoice_lines")
    nothing = dict.fromkeys(NAMED)

    for column in NAMED:
        with pytest.raises(IntegrityError, match="which is not there"):
            execute(COPY, **{**nothing, column: uuid4()})
        if column != "adjusts_invoice_id":
            with pytest.raises(IntegrityError, match="which is not there"):
                execute(f"UPDATE invoice_lines SET {column} = :id", id=uuid4())  # noqa: S608

    assert query("SELECT * FROM invoice_lines") == before
    execute(COPY, **nothing)
    assert query("SELECT count(*) FROM invoice_lines") == [(2,)]


@pytest.mark.parametrize("table", ["invoices", "prices", "subscriptions"])
def test_what_lines_name_can_not_be_removed_or_get_another_id(db: Engine, table: str) -> None:
    draft()

    for statement in (
        f"DELETE FROM {table}",  # noqa: S608
        f"UPDATE {table} SET id = gen_random_uuid()",  # noqa: S608
        f"TRUNCATE {table} CASCADE",
    ):
        with pytest.raises(IntegrityError, match=r"stay|append-only"):
            execute(statement)


def test_of_eight_that_write_past_the_program_one_puts_the_tenant_on_the_plan(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("other", "2026-01-01")
    execute("INSERT INTO tenants (tenant_id) VALUES ('acme')")

    def write(day: int) -> str:
        begins = instant("2026-01-01") + dt.timedelta(days=day)
        try:
            execute(SUBSCRIBE, id=uuid4(), effective_at=begins, ended_at=None)
        except IntegrityError as error:
            return str(getattr(error.orig, "sqlstate", None))
        return "made"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(write, range(8)))

    assert sorted(outcomes) == ["23P01"] * 7 + ["made"]
    assert query("SELECT count(*) FROM subscriptions WHERE tenant_id = 'acme'") == [(1,)]


def test_who_writes_at_the_same_time_waits_and_then_sees_what_was_committed(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("other", "2026-01-01")
    execute("INSERT INTO tenants (tenant_id) VALUES ('acme')")
    row = {"effective_at": instant("2026-01-01"), "ended_at": None}

    with ThreadPoolExecutor(1) as pool, db.connect() as first:
        first.execute(text(SUBSCRIBE), {"id": uuid4(), **row})
        second = pool.submit(execute, SUBSCRIBE, id=uuid4(), **row)
        until_somebody_waits()
        first.commit()

        with pytest.raises(IntegrityError, match="of the same tenant and plan"):
            second.result(timeout=60)


def test_a_transaction_that_could_not_see_what_others_commit_changes_no_subscription(
    db: Engine,
) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")
    move = text("UPDATE subscriptions SET ended_at = '2027-01-01Z'")

    careful = db.execution_options(isolation_level="REPEATABLE READ")
    with pytest.raises(NotSupportedError, match="read what is committed"), careful.begin() as one:
        one.execute(move)

    assert query("SELECT ended_at FROM subscriptions") == [(None,)]


def test_one_subscription_may_begin_as_another_ends_and_not_be_moved_over_it(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("other", "2026-01-01")
    execute("INSERT INTO tenants (tenant_id) VALUES ('acme')")
    months = [instant(f"2026-0{month}-01") for month in (1, 2, 3)]
    for begins, ends in (months[:2], months[1:], (months[1], months[1])):
        execute(SUBSCRIBE, id=uuid4(), effective_at=begins, ended_at=ends)

    for change in ("ended_at = ended_at + interval '1 day'", "effective_at = '2026-01-15Z'"):
        with pytest.raises(IntegrityError, match="of the same tenant and plan"):
            execute(f"UPDATE subscriptions SET {change} WHERE tenant_id = 'acme'")  # noqa: S608

    assert query("SELECT count(*) FROM subscriptions WHERE tenant_id = 'acme'") == [(3,)]


def test_a_line_is_read_as_it_was_written_whatever_is_in_it(db: Engine) -> None:
    draft()
    odd = 'a "quoted" \\ back\\slash, {brace} NULL é\n\t\u2028'
    with database.transaction() as session:
        (found,) = invoice_line.lines(session, _ids(session)).values()
        steps = [{"of": odd, "amount": "1.5"}]
        lines = [
            billing.Line(
                kind=one.kind,
                subscription_id=one.subscription_id,
                price_id=one.price_id,
                metric=odd,
                description=odd,
                quantity=Decimal("-1E+3"),
                unit_amount=None,
                amount_minor=-5,
                period=one.period,
                details=details,
            )
            for one in found
            for details in ({**one.details, "steps": steps}, {"note": odd}, {"note": odd})
        ]
        session.execute(text("DELETE FROM invoice_lines"))
        bill = Bill(tuple(line.amount_minor for line in lines))
        line_rows.add(session, [(_ids(session)[0], "USD", lines, bill)])

        assert list(invoice_line.lines(session, _ids(session)).values()) == [lines]


def _ids(session: database.Session) -> list[UUID]:
    return list(session.scalars(text("SELECT id FROM invoices")))

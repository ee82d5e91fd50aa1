"""The database's roles: what each may do is what it needs, and nothing else."""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from models import database, failures, migrations, rights
from models.base import Base
from models.rights import FUNCTIONS, TABLES, Role
from models.store import health, partition
from tasks import usage
from tests.integration.command import Command
from tests.roles import acting_as
from worker import app, overview
from worker.health import server
from worker.health.finding import Finding

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

HIDDEN = {
    "delivery_attempts": {"response_excerpt"},
    "endpoint_secrets": {"sealed"},
    "endpoints": {"headers"},
    "idempotency_keys": {"request_hash", "answer"},
    "outbox_messages": {"body"},
    "rejected_messages": {"payload", "payload_hash", "errors"},
    "trial_identities": {"digest"},
}
"""Secrets, what may hold some, and what others wrote: nothing for a dashboard."""

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def owner(db: Engine, roles: None) -> Iterator[Connection]:
    """The owner's connection, undone at the end."""
    with db.connect() as connection:
        yield connection
        connection.rollback()


def test_every_table_is_named_with_its_rights() -> None:
    assert set(TABLES) == {*Base.metadata.tables, "alembic_version", "delivery_attempts_default"}


def test_the_reader_sees_all_of_a_table_but_what_is_nobodys_business(owner: Connection) -> None:
    rows = owner.execute(
        text("""
            SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE relname = ANY(:tables) AND attnum > 0 AND NOT attisdropped
              AND NOT has_column_privilege(:role, attrelid, attnum, 'SELECT')
        """),
        {"tables": list(Base.metadata.tables), "role": Role.reader},
    )

    hidden: dict[str, set[str]] = {}
    for table, column in rows:
        hidden.setdefault(table, set()).add(column)
    assert hidden == HIDDEN


def test_the_script_takes_back_what_is_not_named(owner: Connection) -> None:
    as_named = granted(owner)
    owner.execute(text("GRANT ALL ON ledger_entries TO billing_worker"))
    owner.execute(text("GRANT SELECT (sealed) ON endpoint_secrets TO billing_reader"))
    assert granted(owner) != as_named

    run(owner, rights.script().replace("BEGIN;", "").replace("COMMIT;", ""))

    assert granted(owner) == as_named
    assert as_named["billing_worker", "ledger_entries"] == {"SELECT", "INSERT"}


def granted(connection: Connection) -> dict[tuple[str, str], set[str]]:
    """What each role may do with each table, or with some column of it."""
    rows = connection.execute(
        text("""
            SELECT role, table_name, privilege FROM unnest(CAST(:roles AS text[])) AS role,
                unnest(CAST(:tables AS text[])) AS table_name,
                unnest(CAST(:privileges AS text[])) AS privilege
            WHERE has_table_privilege(role, table_name, privilege)
            UNION ALL
            SELECT rolname, relname, given.privilege_type || ' ' || attname
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            CROSS JOIN LATERAL aclexplode(attacl) AS given
            JOIN pg_roles ON pg_roles.oid = given.grantee
            WHERE relname = ANY(:tables) AND rolname = ANY(:roles)
        """),
        {"roles": list(Role), "tables": list(TABLES), "privileges": list(PRIVILEGES)},
    )
    found: dict[tuple[str, str], set[str]] = {}
    for role, table, privilege in rows:
        found.setdefault((role, table), set()).add(privilege)
    return found


def run(connection: Connection, script: str) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute(script)


REFUSED = {
    Role.worker: [
        "UPDATE ledger_entries SET amount = 0",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
        "TRUNCATE usage_events",
        "UPDATE payments SET amount_minor = 0",
        "DELETE FROM invoices",
        "UPDATE trial_identities SET pepper_id = ''",
        "SELECT sealed FROM endpoint_secrets",
        "INSERT INTO endpoints (id, url, topics) VALUES (gen_random_uuid(), '', '{}')",
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "SET LOCAL session_replication_role = replica",
        "DROP TABLE delivery_attempts_default",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT drop_attempts_day(current_date)",
        "UPDATE alembic_version SET version_num = ''",
        "COPY tenants TO PROGRAM 'cat'",
    ],
    Role.sender: [
        "SELECT FROM ledger_entries",
        "INSERT INTO ledger_entries DEFAULT VALUES",
        "UPDATE credit_balances SET balance = 1",
        "SELECT FROM usage_events",
        "UPDATE invoices SET state = 'paid'",
        "UPDATE tenants SET currency = 'EUR'",
        "UPDATE outbox_messages SET body = ''",
        "SELECT FROM trial_identities",
        "DELETE FROM delivery_attempts",
        "SELECT prepare_attempts_day(current_date)",
    ],
    Role.producer: [
        "SELECT FROM credit_balances",
        "SELECT FROM usage_aggregates",
        "SELECT FROM endpoints",
        "SELECT FROM invoices",
        "UPDATE usage_events SET amount = 0",
        "DELETE FROM usage_events",
        "UPDATE tenants SET merged_into = 'me'",
        "UPDATE usage_horizons SET closed_until = 'epoch'",
        "INSERT INTO meters (metric) VALUES ('m')",
    ],
    Role.reader: [
        "INSERT INTO tenants (tenant_id) VALUES ('t')",
        "UPDATE tenants SET name = ''",
        "SELECT FROM tenants FOR SHARE",
        "SELECT sealed FROM endpoint_secrets",
        "SELECT * FROM endpoint_secrets",
        "SELECT headers FROM endpoints",
        "SELECT body FROM outbox_messages",
        "SELECT answer FROM idempotency_keys",
        "SELECT payload FROM rejected_messages",
        "SELECT digest FROM trial_identities",
        "SELECT response_excerpt FROM delivery_attempts",
        "SELECT FROM delivery_attempts_default",
        "SELECT prepare_attempts_day(current_date)",
    ],
}


@pytest.mark.parametrize("role", Role)
def test_what_a_role_does_not_need_is_refused(db: Engine, roles: None, role: Role) -> None:
    for statement in REFUSED[role]:
        with db.connect() as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                connection.execute(text(statement))


def test_no_other_function_acts_as_the_owner(owner: Connection) -> None:
    found = owner.execute(
        text("""
            SELECT oid::regprocedure::text AS name, proconfig, proacl::text AS acl FROM pg_proc
            WHERE prosecdef AND pronamespace = 'public'::regnamespace
        """)
    ).all()

    assert {row.name for row in found} == set(FUNCTIONS)
    for row in found:
        assert "search_path=public, pg_temp" in row.proconfig
        assert not row.acl.startswith("{=")


def test_partitions_are_made_and_dropped_by_those_who_may_not_make_tables(
    db: Engine, roles: None
) -> None:
    day = dt.date(2026, 3, 1)
    with acting_as(db, Role.worker), database.transaction() as session:
        assert partition.ensure_day(session, day) == 0
        assert partition.ensure_day(session, day) is None
    with db.connect() as connection:
        owned = "SELECT relowner = (SELECT relowner FROM pg_class WHERE relname = 'tenants') "
        found = connection.scalar(
            text(f"{owned} FROM pg_class WHERE relname = :name"), {"name": NAME}
        )
    assert found is True
    with acting_as(db, Role.sender), database.transaction() as session:
        session.execute(ATTEMPT, {"at": NOW})
        assert session.scalar(text("SELECT count(*) FROM delivery_attempts")) == 1
        assert session.scalar(text("SELECT count(*) FROM delivery_attempts_default")) == 0
    with acting_as(db, Role.sender), database.transaction() as session:
        assert partition.drop_day(session, day) is True
        assert partition.drop_day(session, day) is False


NAME = "delivery_attempts_20260301"

ATTEMPT = text("""
    INSERT INTO delivery_attempts
        (id, attempted_at, delivery_id, endpoint_id, attempt_number, outcome, latency_ms)
    VALUES (gen_random_uuid(), :at, 1, gen_random_uuid(), 1, 'delivered', 1)
""")


def test_who_calls_the_upkeep_can_not_give_it_other_tables(owner: Connection) -> None:
    """Nor any function or operator: its search path is its own."""
    owner.execute(text("CREATE SCHEMA trap"))
    owner.execute(text("CREATE TABLE trap.delivery_attempts_default (LIKE delivery_attempts)"))
    owner.execute(text("GRANT USAGE ON SCHEMA trap TO billing_worker"))
    owner.execute(ATTEMPT, {"at": NOW})
    owner.execute(text("SET LOCAL ROLE billing_worker"))
    owner.execute(text("SET LOCAL search_path = trap, public"))

    moved = owner.scalar(text("SELECT prepare_attempts_day('2026-03-01')"))

    assert moved == 1
    assert owner.scalar(text(f"SELECT to_regclass('public.{NAME}') IS NOT NULL")) is True
    assert owner.scalar(text("SHOW search_path")) == "trap, public"


def test_migrating_gives_roles_that_are_known_their_rights_on_what_is_new(
    empty_database: Engine, roles: None
) -> None:
    migrations.upgrade(empty_database, "0023")
    with empty_database.begin() as connection:
        connection.execute(text("GRANT SELECT ON alembic_version TO billing_worker"))

    migrations.upgrade(empty_database)

    with empty_database.connect() as connection:
        found = granted(connection)
        prepare = "SELECT has_function_privilege(:role, 'prepare_attempts_day(date)', 'EXECUTE')"
        assert connection.scalar(text(prepare), {"role": Role.worker}) is True
        assert connection.scalar(text(prepare), {"role": Role.reader}) is False
    assert found["billing_worker", "check_runs"] == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    # Another installation on the same server keeps its roles to itself.
    assert {role for role, _ in found} == {"billing_worker"}


ASKED: dict[str, dict[str, Any]] = {
    "billing.check_quota": {"tenant_id": "acme", "product_key": "CALLS"},
    "billing.export_catalog": {},
    "billing.get_tenant": {"tenant_id": "acme"},
    "billing.get_wallet": {"tenant_id": "acme"},
    "billing.list_batches": {"tenant_id": "acme"},
    "billing.list_invoices": {"tenant_id": "acme"},
    "billing.list_ledger": {"tenant_id": "acme"},
    "billing.list_orders": {},
    "billing.list_subscriptions": {"tenant_id": "acme"},
    "billing.list_tenants": {},
    "billing.list_usage": {
        "tenant_id": "acme",
        "metric": "calls",
        "granularity": "day",
        "date_from": "2026-01-01",
        "date_to": "2026-02-01",
    },
}


def test_the_reader_may_ask_what_the_books_say(db: Engine, roles: None) -> None:
    app.tasks["billing.set_tenant"](tenant_id="acme")
    product = {"product_key": "CALLS", "name": "Calls", "type": "quantity"}
    app.tasks["billing.set_product"](**product)
    with acting_as(db, Role.reader):
        for name, arguments in ASKED.items():
            assert app.tasks[name](**arguments), name


def test_the_reader_sees_status_and_metrics(
    billing: Command,
    caretaker: Connection,
    roles: None,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("broker_url", "broker_read_url"):
        monkeypatch.setattr(app.conf, name, broker_url)
    monkeypatch.setenv("BROKER_URL", broker_url)
    monkeypatch.setattr(overview, "ANSWER_SECONDS", 0.1)
    reader = caretaker.engine.url.set(username="reader_1", password="of-a-test")
    monkeypatch.setenv("DATABASE_URL", reader.render_as_string(hide_password=False))
    login = "CREATE ROLE reader_1 LOGIN PASSWORD 'of-a-test' IN ROLE billing_reader"
    caretaker.execute(text(login))
    try:
        status, metrics = billing("status", "--json"), billing("metrics", "--once")
    finally:
        database.dispose()
        caretaker.execute(text("DROP ROLE reader_1"))

    assert json.loads(status.out)["away"] == {}
    assert (metrics.status, metrics.err) == (0, "")
    assert "billing_outbox_pending" in metrics.out


def test_the_doctor_knows_who_could_do_more_than_its_work(
    session: database.Session, roles: None
) -> None:
    def judged(role: str) -> Finding:
        session.execute(text(f"SET LOCAL ROLE {role}"))
        return server.of_role(health.server(session), is_ours=False)

    session.execute(text("CREATE ROLE somebody IN ROLE billing"))
    superuser, owner, reader = (judged(role) for role in ("billing", "somebody", Role.reader))

    assert superuser.detail.startswith("billing is a superuser")
    assert owner.detail.startswith("somebody is the owner of the tables")
    assert [one.verdict for one in (superuser, owner, reader)] == ["warn", "warn", "ok"]
    assert "docs/safety.md" in owner.remedy


def test_a_workers_task_is_refused_to_the_sender(db: Engine, roles: None) -> None:
    with acting_as(db, Role.sender), pytest.raises(ProgrammingError) as refused:
        cast("Any", usage.record_usage)(
            tenant_id="acme", metric="calls", amount="1", idempotency_key="1"
        )

    assert failures.is_forbidden(refused.value)


def test_a_service_records_usage_in_its_own_process(db: Engine, roles: None) -> None:
    event = {"tenant_id": "new", "metric": "calls", "at": NOW, "idempotency_key": "1"}
    events = [{**event, "amount": amount} for amount in ("2", "2", "3", "-1")]
    with acting_as(db, Role.producer):
        answer = cast("Any", usage.record_usage)(events=events, as_of=NOW)

    assert answer["verdicts"] == ["accepted", "duplicate", "conflict", "rejected"]
    with db.connect() as connection:
        assert connection.scalar(text("SELECT sum(amount) FROM usage_events")) == 2
        assert connection.scalar(text("SELECT count(*) FROM rejected_messages")) == 2

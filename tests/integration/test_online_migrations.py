"""Migrations beside those who work: they give way, name who is in it, and lose nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, text

from models import database, migrations
from models.migrations import locking, online
from tests.integration.command import Command
from tests.processes import eventually
from worker import boot

BEFORE = "0016"
"""What comes then changes and refers to tables that are in use."""

HASTY = migrations.Patience(lock_timeout_ms=300, tries=2, pause_ms=10)

TENANT = "INSERT INTO tenants (tenant_id) VALUES (:one)"
EVENT = """
    INSERT INTO usage_events (id, tenant_id, metric, idempotency_key, amount, at, received_at)
    VALUES (gen_random_uuid(), :one, 'calls', 'k', 1, now(), now())
"""


@contextmanager
def holding(engine: Engine, statement: str) -> Iterator[Connection]:
    """Somebody in the middle of a transaction."""
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text("SET application_name = 'a report'"))
        connection.execute(text(statement))
        yield connection
        transaction.rollback()


def pid_of(connection: Connection) -> int:
    return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_migration_gives_up_in_time_names_who_holds_the_table_and_goes_on_when_run_again(
    empty_database: Engine,
) -> None:
    migrations.upgrade(empty_database, "0017")
    told: list[str] = []
    with holding(empty_database, "LOCK TABLE subscriptions IN ACCESS SHARE MODE") as other:
        pid = pid_of(other)
        with pytest.raises(migrations.Blocked) as blocked:
            migrations.upgrade(empty_database, patience=HASTY, tell=told.append)
        # It stands in nobody's way any more, and has done nothing by halves.
        with empty_database.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SELECT count(*) FROM subscriptions"))
        assert migrations.current(empty_database) == "0017"

    assert f"AccessExclusiveLock on subscriptions held by process {pid}" in str(blocked.value)
    assert "'a report'" in str(blocked.value)
    assert "in 2 tries" in str(blocked.value)
    assert told
    assert f"process {pid}" in told[0]
    migrations.upgrade(empty_database, patience=HASTY)
    assert migrations.current(empty_database) == migrations.head()


def test_what_was_done_before_the_lock_that_could_not_be_had_stays_done(
    empty_database: Engine,
) -> None:
    migrations.upgrade(empty_database, "0016")
    with (
        holding(empty_database, "LOCK TABLE subscriptions IN ACCESS SHARE MODE"),
        pytest.raises(migrations.Blocked),
    ):
        migrations.upgrade(empty_database, patience=HASTY)

    assert migrations.current(empty_database) == "0017"


def test_a_second_process_that_migrates_waits_and_is_told_for_whom(empty_database: Engine) -> None:
    with holding(empty_database, f"SELECT pg_advisory_lock({locking.MIGRATION_LOCK})") as other:
        with pytest.raises(migrations.Blocked, match=f"process {pid_of(other)}"):
            migrations.upgrade(empty_database, patience=HASTY)
        other.execute(text("SELECT pg_advisory_unlock_all()"))

    migrations.upgrade(empty_database, patience=HASTY)


def test_workers_store_events_all_the_while_and_not_one_is_lost(empty_database: Engine) -> None:
    migrations.upgrade(empty_database, BEFORE)
    over, failed, stored = threading.Event(), list[str](), list[str]()

    def load(name: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            one = f"tenant-{name}-{number}"
            try:
                with empty_database.begin() as connection:
                    connection.execute(text("SET LOCAL lock_timeout = '60s'"))
                    connection.execute(text(TENANT), {"one": one})
                    connection.execute(text(EVENT), {"one": one})
                stored.append(one)
            except Exception as error:  # noqa: BLE001 (whatever it is, the test fails)
                failed.append(repr(error))
                over.set()

    threads = [threading.Thread(target=load, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(stored) > 50 or failed)
        migrations.upgrade(empty_database)
        after = len(stored)
        eventually(lambda: len(stored) > after + 50 or failed)
    finally:
        over.set()
        for thread in threads:
            thread.join()

    assert failed == []
    with empty_database.connect() as connection:
        found = set(connection.scalars(text("SELECT tenant_id FROM usage_events")))
    assert found == set(stored)


def test_an_index_is_made_beside_writers_and_what_a_broken_try_left_is_thrown_away(
    empty_database: Engine,
) -> None:
    with empty_database.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id int)"))
        connection.execute(text("INSERT INTO notes VALUES (1), (1)"))
    with empty_database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(Exception, match="could not create unique index"):
            connection.execute(text("CREATE UNIQUE INDEX CONCURRENTLY ix_notes ON notes (id)"))
        assert not is_valid(connection)

    with empty_database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with Operations.context(context), context.begin_transaction(_per_migration=True):
            online.create_index("ix_notes", "notes", ["id"])

    with empty_database.connect() as connection:
        assert is_valid(connection)


def is_valid(connection: Connection) -> bool:
    found = connection.scalar(
        text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_notes'::regclass")
    )
    return bool(found)


def test_a_program_of_before_goes_on_where_the_database_says_that_it_fits(db: Engine) -> None:
    try:
        set_revision(db, "9999", f"{migrations.FITS}9998, 9999")
        with pytest.raises(boot.DatabaseBehind, match="newer than this program's"):
            boot.require_current_schema()
        set_revision(db, "9999", f"{migrations.FITS}{migrations.head()}, 9999")
        boot.require_current_schema()
        with pytest.raises(LookupError, match="9999"):
            migrations.pending(db)
    finally:
        set_revision(db, migrations.head(), f"{migrations.FITS}{migrations.head()}")


def set_revision(db: Engine, revision: str, comment: str) -> None:
    with db.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{comment}'"))


def test_the_database_says_which_programs_fit_it(db: Engine) -> None:
    migrations.upgrade(db)

    assert migrations.fits(db)
    assert migrations.pending(db) == []


def test_the_plan_is_printed_and_nothing_is_done(
    empty_database: Engine, billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = empty_database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    migrations.upgrade(empty_database, "0017")

    planned, printed = billing("migrate", "--dry-run"), billing("migrate", "--sql")

    assert planned.out.startswith("0018  Fees charged ahead")
    assert planned.out.splitlines()[-1].endswith(" to do")
    assert "ALTER TABLE subscriptions ADD COLUMN fees_due_at" in printed.out
    assert migrations.current(empty_database) == "0017"
    with holding(empty_database, "LOCK TABLE subscriptions IN ACCESS SHARE MODE") as other:
        ended = billing("migrate", "--lock-timeout", "0.3", "--tries", "1")
        assert ended.status == 2
        assert f"held by process {pid_of(other)}" in ended.err
    with empty_database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # One by one, as psql does: an index that is made beside writers is in no transaction.
        for statement in printed.out.split(";\n\n"):
            connection.connection.cursor().execute(statement)
    assert billing("migrate").out == f"database: at {migrations.head()} already\n"
    database.dispose()

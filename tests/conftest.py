"""Real servers for the tests: one PostgreSQL and one Redis a run, an empty database a test."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import Connection, Engine, create_engine, make_url, text

from models import database, rights
from models.rules.trial import Peppers
from models.store import credit_ledger
from tasks import config, providers, window
from tests import clusters
from tests.unit.rules import vectors
from webhooks.guard import Policy
from webhooks.keyring import Keyring, new_master_key
from worker import app as _app  # noqa: F401 (tasks belong to it and not to Celery's own default)
from worker import local, logs
from worker.importing import undisturbed

# The same examples each time, until a test is changed: a run says something of the code and nothing
# of luck. Others are looked for by `make explore`, and what it finds becomes a test of its own.
settings.register_profile("steady", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("steady")

# A shell starts what it puts in the background with Ctrl-C ignored, and so would be every process
# that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

EMPTY = "without_tables"
POOL_SIZE = 20

# Connections of the engine under test stay, and what they have planned; those that a test left in
# the middle of something do not, nor anybody else's.
END_OTHER_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (state <> 'idle' OR application_name <> 'billing')
"""

EMPTY_TABLES = """
    DO $$
    DECLARE one text;
    BEGIN
        -- The append-only tables refuse DELETE; this session is above their triggers.
        SET LOCAL session_replication_role = replica;
        FOR one IN SELECT tablename FROM pg_tables
                   WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        LOOP
            EXECUTE format('DELETE FROM %I', one);
        END LOOP;
        FOR one IN SELECT inhrelid::regclass FROM pg_inherits
                   WHERE inhrelid <> 'delivery_attempts_default'::regclass
                     AND inhparent = 'delivery_attempts'::regclass
        LOOP
            EXECUTE format('DROP TABLE %s', one);
        END LOOP;
    END $$
"""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Neither now nor later look for dead objects among thousands of tests and all modules.

    What is not searched is also not copied by each process that is forked here to be killed.
    """
    with undisturbed():
        return (yield)


@pytest.hookimpl
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count the published cases that came out."""
    row = getattr(item, "callspec", None) and item.callspec.params.get("row")  # type: ignore[attr-defined]
    if call.when == "call" and call.excinfo is None and isinstance(row, dict) and "category" in row:
        vectors.RAN[row["category"], row["model"]] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the count on, from one of several processes to the one that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["published"] = [[*case, times] for case, times in vectors.RAN.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a process counted that ran a part of the tests."""
    for category, model, times in getattr(node, "workeroutput", {}).get("published", ()):
        vectors.RAN[category, model] += times


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many published cases of each model ran, and which are not supported, and why."""
    if vectors.RAN:
        terminalreporter.section("published cases, by model and how often one passed a test")
        for line in vectors.report():
            terminalreporter.line(line)


@pytest.fixture(scope="session", autouse=True)
def mould(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the servers of this process are copied from."""
    with clusters.moulded_in(tmp_path_factory.mktemp("mould")):
        yield


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Servers]:
    """Embedded servers, started once for the run, with a migrated database."""
    folder = tmp_path_factory.mktemp("servers")
    with clusters.running(folder) as running:
        yield running
    local.clear(folder)


@pytest.fixture(scope="session")
def caretaker(servers: local.Servers) -> Iterator[Connection]:
    """The connection that cleans up between tests: a new one would cost more than cleaning."""
    engine = create_engine(servers.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="session")
def roles(caretaker: Connection) -> None:
    """The roles with the least rights, in the migrated database."""
    driver: Any = caretaker.connection.driver_connection
    driver.execute(rights.script())


@pytest.fixture
def database_url(servers: local.Servers, caretaker: Connection) -> Iterator[str]:
    """The migrated database, emptied afterwards. Commits are real.

    Emptying takes 5 ms; a database of its own for each test, copied from a template, 180 ms.
    """
    yield servers.database_url
    caretaker.execute(text(END_OTHER_SESSIONS))
    caretaker.execute(text(EMPTY_TABLES))


@pytest.fixture
def empty_database(servers: local.Servers, caretaker: Connection) -> Iterator[Engine]:
    """An engine on a database without any table."""
    caretaker.execute(text(f"CREATE DATABASE {EMPTY}"))
    engine = create_engine(make_url(servers.database_url).set(database=EMPTY))
    yield engine
    engine.dispose()
    caretaker.execute(text(f"DROP DATABASE {EMPTY} WITH (FORCE)"))


@pytest.fixture
def db(database_url: str) -> Engine:
    """`models.database` configured with this test's database, and its engine.

    The next test has the same engine: what listens to it is to be removed.
    """
    database.configure(database.Options(url=database_url, pool_size=POOL_SIZE))
    return database.engine()


@pytest.fixture
def impatient(database_url: str) -> Engine:
    """The same, in which nobody waits longer than half a second for a lock."""
    options = database.Options(url=database_url, pool_size=POOL_SIZE, lock_timeout_ms=500)
    database.configure(options)
    return database.engine()


@pytest.fixture
def session(db: Engine) -> Iterator[database.Session]:
    """An open transaction for store functions, rolled back at the end."""
    with database.Session(db, autoflush=False, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def logging_as_in_a_worker() -> None:
    """Logs go through the standard library, where `caplog` hears them, whatever ran before."""
    logs.configure("json", "INFO")
    credit_ledger.hand_to(None)
    credit_ledger.tell_within(None)


@pytest.fixture(autouse=True)
def task_config() -> Iterator[config.Config]:
    """What tasks obey in tests: keys, loopback endpoints allowed, nobody to ring."""
    chosen = config.Config(
        keyring=Keyring.parse(new_master_key("test")),
        trial_peppers=Peppers.parse(new_master_key("test")),
        address_policy=Policy(
            allow_http=True, allowed_private_hosts=frozenset({"127.0.0.0/8", "localhost"})
        ),
        kick=False,
    )
    config.use(chosen)
    yield chosen
    config.use(config.Config())
    window.close_sender()
    providers.close()


@pytest.fixture
def broker_url(servers: local.Servers) -> str:
    """The test run's Redis."""
    return servers.broker_url


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder this code is in."""
    return Path(__file__).resolve().parent.parent

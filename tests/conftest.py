"""Real servers for the tests: one PostgreSQL and one Redis a run, a database of its own a test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine, create_engine, make_url, text

from models import database, migrations
from tasks import config
from webhooks.guard import Policy
from webhooks.keyring import Keyring, new_master_key
from worker import local

settings.register_profile("default", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("default")

TEMPLATE = "template_billing"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Servers]:
    """Embedded servers, started once for the run, with the template database migrated."""
    folder = tmp_path_factory.mktemp("servers")
    with local.running(folder, fsync=False) as running:
        _execute(running, f"CREATE DATABASE {TEMPLATE}")
        template = create_engine(_url(running, TEMPLATE))
        migrations.upgrade(template)
        template.dispose()
        yield running
    local.clear(folder)


@pytest.fixture
def database_url(servers: local.Servers) -> Iterator[str]:
    """A migrated database of this test's own, dropped afterwards. Commits are real."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _execute(servers, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield _url(servers, name)
    _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(servers: local.Servers) -> Iterator[Engine]:
    """An engine on a database without any table."""
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    _execute(servers, f"CREATE DATABASE {name}")
    engine = create_engine(_url(servers, name))
    yield engine
    engine.dispose()
    _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db(database_url: str) -> Iterator[Engine]:
    """`models.database` configured with this test's database, and its engine."""
    database.configure(database.Options(url=database_url, pool_size=20))
    yield database.engine()
    database.dispose()


@pytest.fixture
def session(db: Engine) -> Iterator[database.Session]:
    """An open transaction for store functions, rolled back at the end."""
    with database.Session(db, autoflush=False, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def task_config() -> Iterator[config.Config]:
    """What tasks obey in tests: a keyring, loopback endpoints allowed, nobody to ring."""
    chosen = config.Config(
        keyring=Keyring.parse(new_master_key("test")),
        address_policy=Policy(
            allow_http=True, allowed_private_hosts=frozenset({"127.0.0.0/8", "localhost"})
        ),
        kick=False,
    )
    config.use(chosen)
    yield chosen
    config.use(config.Config())


@pytest.fixture
def broker_url(servers: local.Servers) -> str:
    """The test run's Redis."""
    return servers.broker_url


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder this code is in."""
    return Path(__file__).resolve().parent.parent


def _url(servers: local.Servers, name: str) -> str:
    return make_url(servers.database_url).set(database=name).render_as_string(hide_password=False)


def _execute(servers: local.Servers, statement: str) -> None:
    engine = create_engine(servers.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()

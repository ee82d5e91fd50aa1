"""Who is told of statements: their names and texts, how they ended, and never a value."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from models import address, database, statements
from models.store import tenant


class Heard:
    """What was told, as (name, text, how it ended)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, str | None]] = []

    def begun(self, name: str, text: str) -> statements.Ended:
        return lambda error: self.all.append((name, text, error))


@pytest.fixture
def heard(database_url: str) -> Iterator[Heard]:
    found = Heard()
    statements.tell(found.begun)
    yield found
    statements.tell(None)


def test_a_statement_is_told_by_the_function_that_runs_it(heard: Heard, database_url: str) -> None:
    engine = create_engine(address.driver_url(database_url))
    statements.watch(engine)

    with closing(engine.connect()) as connection, database.Session(connection) as session:
        with pytest.raises(tenant.UnknownTenant):
            tenant.get(session, "a-tenant-nobody-knows")
        with pytest.raises(DBAPIError):
            session.connection().exec_driver_sql("SELECT 1 / 0")
    engine.dispose()

    first, last = heard.all[0], heard.all[-1]
    assert first[0].startswith("tenant.")
    assert first[2] is None
    assert "a-tenant-nobody-knows" not in first[1]
    assert last == ("statement", "SELECT 1 / 0", "22012")


def test_an_engine_that_nobody_asked_about_has_no_listener(database_url: str) -> None:
    engine = create_engine(address.driver_url(database_url))

    statements.watch(engine)

    assert not list(engine.dispatch.before_cursor_execute)
    engine.dispose()

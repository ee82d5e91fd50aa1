"""The way from an empty database to the tables of today. Append-only once landed.

A migration runs while workers of the release before work on the same tables (docs/upgrading.md):
each is a transaction of its own that waits for a lock only briefly, gives way, and tries again.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from models import failures, rights
from models.migrations import locking
from models.migrations.locking import Blocked

__all__ = ["USUAL", "Blocked", "Patience", "Step", "current", "head", "pending", "sql", "upgrade"]

RULED_SINCE = 24
"""The first migration that must leave the release before at work; see models/migrations/hazards."""

FITS = "billing: programs of these revisions work on this schema: "
"""How the comment on Alembic's table begins that `upgrade` leaves."""

GIVEN = text("""
    SELECT rolname FROM pg_roles
    WHERE rolname = ANY(:roles) AND has_table_privilege(oid, 'alembic_version', 'SELECT')
""")
"""Which roles this database knows."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a migration waits for locks.

    Args:
        lock_timeout_ms: for each lock; everybody else who wants that table waits as long.
        tries: how often one migration is tried before `Blocked` is raised.
        pause_ms: between two tries, in which the others go on.
    """

    lock_timeout_ms: int = 2_000
    tries: int = 15
    pause_ms: int = 2_000


USUAL = Patience()


@dataclass(frozen=True, slots=True)
class Step:
    """One migration that a database has not seen yet.

    Args:
        breaks_older: why programs of the release before do not work after it; None if they do.
        holds_locks: why it keeps others from a table for long; None if it does not.
    """

    revision: str
    says: str
    breaks_older: str | None
    holds_locks: str | None


def upgrade(
    engine: Engine,
    revision: str = "head",
    *,
    patience: Patience = USUAL,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Bring the database to a revision, one migration after the other, each whole or not at all.

    Roles that have rights in the database (models/rights.py) get those on what is new. A second
    process that tries waits for the first. The connections are its own: session locks and
    timeouts must not go back to a pool. They do not work through a pooler of transactions.

    Args:
        tell: is told, a line each, what a migration waits for.

    Raises:
        Blocked: somebody did not let go of a table. What was done before it stays done; run again.
    """
    timeouts = f"-c lock_timeout={patience.lock_timeout_ms} -c statement_timeout=0"
    own = create_engine(
        engine.url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={
            "application_name": locking.APPLICATION,
            "options": f"{timeouts} -c idle_in_transaction_session_timeout=0 -c timezone=UTC",
        },
    )
    # Ends with this connection, so also with a process that is killed.
    with own.connect().execution_options(isolation_level="AUTOCOMMIT") as keeper:
        _patiently(lambda: locking.alone(keeper, tell), patience)
        _patiently(lambda: _upgrade(own, keeper, revision, tell), patience)
        if current(own) == head():
            keeper.execute(text(f"COMMENT ON TABLE alembic_version IS '{FITS}{_fitting()}'"))
            _grant_anew(own)


def _grant_anew(own: Engine) -> None:
    """Give the roles what they may do with the tables of today, where they were given any right.

    Only there: roles are the whole server's, and another of its databases is not theirs by that.
    """
    with own.begin() as connection:
        given = connection.scalars(GIVEN, {"roles": list(rights.Role)}).all()
        for statement in rights.grants([rights.Role(role) for role in given]):
            connection.execute(text(statement))


def _patiently(step: Callable[[], None], patience: Patience) -> None:
    """Do it; again, a bounded number of times, while somebody is in the way."""
    for tried in range(1, patience.tries + 1):
        try:
            return step()
        except Blocked as blocked:
            if tried == patience.tries:
                raise blocked.after(tried, patience.lock_timeout_ms) from None
        time.sleep(patience.pause_ms / 1000)
    raise AssertionError("the last try returns or raises")


def _upgrade(own: Engine, keeper: Any, revision: str, tell: Callable[[str], None]) -> None:
    config = configuration()
    with own.connect() as connection, locking.watching(keeper, connection, tell) as watch:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except DBAPIError as error:
            if not failures.is_lock_timeout(error):
                raise
            raise Blocked(watch.waited_for) from None


def pending(engine: Engine) -> list[Step]:
    """Return what `upgrade` would do to a database, in order.

    Raises:
        LookupError: the database is at a revision that this program does not know.
    """
    found, scripts = current(engine), ScriptDirectory.from_config(configuration())
    if found is not None and not is_known(found):
        raise LookupError(f"the database is at revision {found}, which this program does not know")
    newest_first = scripts.iterate_revisions("head", found or "base")
    return [_step(script) for script in reversed(list(newest_first))]


def sql(since: str | None = None, until: str = "head") -> str:
    """Return the statements from one revision, or from an empty database, to another."""
    buffer = io.StringIO()
    config = configuration()
    config.output_buffer = buffer
    config.attributes["from_empty"] = since is None
    command.upgrade(config, until if since is None else f"{since}:{until}", sql=True)
    return buffer.getvalue()


def current(engine: Engine) -> str | None:
    """Return the revision the database is at, or None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def fits(engine: Engine) -> bool:
    """Tell whether a newer database says that programs of our revision work on it."""
    with engine.connect() as connection:
        comment = connection.scalar(
            text("SELECT obj_description(to_regclass('alembic_version')::oid, 'pg_class')")
        )
    return (comment or "").startswith(FITS) and head() in comment.removeprefix(FITS).split(", ")


def head() -> str:
    """Return the revision this program was written for."""
    revision = ScriptDirectory.from_config(configuration()).get_current_head()
    if revision is None:
        raise LookupError("no migrations were found beside models/migrations/__init__.py")
    return revision


def is_known(revision: str) -> bool:
    """Tell whether a revision is one of this program's; a newer program's is not."""
    scripts = ScriptDirectory.from_config(configuration())
    return any(script.revision == revision for script in scripts.walk_revisions())


def configuration() -> Config:
    """Return how Alembic finds our migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def _fitting() -> str:
    """The revisions whose programs work on the tables of today: back to the last that broke."""
    found = []
    for script in ScriptDirectory.from_config(configuration()).walk_revisions():
        found.append(script.revision)
        if int(script.revision) < RULED_SINCE or _step(script).breaks_older:
            break
    return ", ".join(found)


def _step(script: Script) -> Step:
    return Step(
        revision=script.revision,
        says=script.doc,
        breaks_older=getattr(script.module, "breaks_older", None),
        holds_locks=getattr(script.module, "holds_locks", None),
    )

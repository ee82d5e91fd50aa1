"""Is the database one that this program can work with?"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Final

from models import database, failures, migrations
from models.store import health, partition
from tasks import clock
from worker import boot, settings
from worker.health import tls
from worker.health.finding import Area, Finding, Verdict

OLDEST_POSTGRES: Final = 160_000

CONNECTIONS_WARN: Final = 0.9
"""Part of its connections from which on a server is about to refuse the next one."""

LOOK_SECONDS: Final = 10.0
"""How long one look may take: a health check that waits for a lock says nothing."""


def look(chosen: settings.Settings, now: Callable[[], dt.datetime]) -> Iterator[Finding]:
    """Judge the server, its clock and its schema."""
    try:
        database.configure(patient(chosen.database_options()))
        with database.transaction() as session:
            before = now()
            server = health.server(session)
            apart = clock.difference(server.clock, before=before, after=now())
    except settings.InvalidSettings as error:
        yield _fail("database", str(error), "set DATABASE_URL or run `billing up`")
        return
    except Exception as error:
        if not failures.is_unreachable(error):
            raise
        remedy = tls.remedy(error, "sslrootcert in DATABASE_URL") or (
            "start PostgreSQL, or correct DATABASE_URL"
        )
        yield _fail("database", failures.reason(error), remedy)
        return
    yield _version(server)
    yield of_role(server, is_ours=chosen.database_url is None)
    yield from tls.of_database(chosen)
    yield of_clock(apart)
    yield _connections(server)
    yield from _schema(now())


def patient(options: database.Options) -> database.Options:
    """Return the options with which one look is not waited for any longer than it is worth."""
    milliseconds = round(LOOK_SECONDS * 1000)
    return database.Options(
        url=options.url,
        pool_size=1,
        lock_timeout_ms=milliseconds,
        statement_timeout_ms=milliseconds,
    )


def of_role(server: health.Server, *, is_ours: bool) -> Finding:
    """Judge what else than its work a process could do as the role it logged in with.

    Args:
        is_ours: whether the server is the embedded one, of which we are the only user.
    """
    if is_ours:
        return _ok("role", f"{server.role}, of the embedded server")
    if not (server.is_superuser or server.is_owner):
        return _ok("role", f"{server.role}, which owns nothing here")
    what = (
        "a superuser, who may do anything to that server"
        if server.is_superuser
        else "the owner of the tables, who may drop them and change the ledger"
    )
    remedy = (
        "right for `billing migrate`; let all others log in as a member of a role of "
        "`billing schema roles`, see docs/safety.md"
    )
    return _warn("role", f"{server.role} is {what}", remedy)


def of_clock(apart: dt.timedelta) -> Finding:
    """Judge how far our clock is from the database's."""
    detail = f"differs by {apart.total_seconds():.1f} s from the database's"
    match clock.judge(apart):
        case clock.Judgement.fine:
            return _ok("clock", detail)
        case clock.Judgement.warn:
            return _warn("clock", detail, clock.REMEDY)
        case clock.Judgement.stop:
            return _fail("clock", f"{detail}: no webhook is sent from here", clock.REMEDY)


def _version(server: health.Server) -> Finding:
    said = f"PostgreSQL {server.version // 10_000}.{server.version % 10_000}, as {server.role}"
    detail = f"{said}, {'over TLS' if server.encrypted else 'not encrypted'}"
    if server.version < OLDEST_POSTGRES:
        return _fail("database", detail, "upgrade it to 16 or newer")
    if server.read_only:
        remedy = "let DATABASE_URL lead to the primary"
        return _fail("database", f"{detail}: nothing can be written there", remedy)
    return _ok("database", detail)


def _connections(server: health.Server) -> Finding:
    detail = f"{server.connections} of {server.most_connections} in use"
    if server.connections < CONNECTIONS_WARN * server.most_connections:
        return _ok("connections", detail)
    remedy = "raise max_connections, or put a pool such as PgBouncer before it"
    return _warn("connections", detail, remedy)


def _schema(now: dt.datetime) -> Iterator[Finding]:
    try:
        boot.require_current_schema()
    except boot.DatabaseBehind as error:
        yield _fail("schema", str(error), "run `billing migrate`")
        return
    found = migrations.current(database.engine())
    newer = "" if found == migrations.head() else f", works on the database's {found}"
    yield _ok("schema", f"revision {migrations.head()}{newer}")
    tomorrow = now.astimezone(dt.UTC).date() + dt.timedelta(days=1)
    with database.transaction() as session:
        is_there = partition.has_day(session, tomorrow)
    if is_there:
        yield _ok("partitions", "made for tomorrow")
    else:
        remedy = "check beat; at once: `billing call billing.prepare_partitions`"
        detail = "none for tomorrow's attempts, which will be moved when there is one"
        yield _warn("partitions", detail, remedy)


def _ok(subject: str, detail: str) -> Finding:
    return Finding(Area.database, subject, Verdict.ok, detail)


def _warn(subject: str, detail: str, remedy: str) -> Finding:
    return Finding(Area.database, subject, Verdict.warn, detail, remedy)


def _fail(subject: str, detail: str, remedy: str) -> Finding:
    return Finding(Area.database, subject, Verdict.fail, detail, remedy)

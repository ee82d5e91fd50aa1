"""What `billing doctor` looks at, in the order in which it depends on each other."""

import datetime as dt
from collections.abc import Callable, Collection, Iterator

from celery import Celery

from models import database, failures
from models.store import check, due, health
from worker import settings
from worker.health import broker, keys, server, tls, work
from worker.health.finding import Area, Finding, Verdict

OF_DATABASE = frozenset({Area.keys, Area.database, Area.backlog, Area.checks})
OF_BROKER = frozenset({Area.broker, Area.workers, Area.backlog})
"""What can be told only by whom."""


def examine(
    app: Celery, *, now: Callable[[], dt.datetime], areas: Collection[Area] = frozenset(Area)
) -> Iterator[Finding]:
    """Look at everything, or at some areas alone.

    What fails is told whatever its area: without it what was asked for can not be looked at.
    """
    for finding in _all(app, now, frozenset(areas)):
        if finding.area in areas or finding.verdict is Verdict.fail:
            yield finding


def _all(app: Celery, now: Callable[[], dt.datetime], areas: frozenset[Area]) -> Iterator[Finding]:
    try:
        chosen = settings.load()
    except settings.InvalidSettings as error:
        yield _settings(error)
        return
    try:
        chosen.require_usable()
    except settings.InvalidSettings as error:
        yield _settings(error)
    else:
        yield Finding(Area.settings, "settings", Verdict.ok, "all that is set can be used")
    if Area.keys in areas:
        yield from keys.given(chosen)
    if areas & OF_DATABASE:
        yield from _database(chosen, now, areas)
    if Area.broker in areas:
        yield from tls.of_broker(chosen)
    if areas & OF_BROKER:
        yield from broker.look(chosen, app, now)


def _settings(error: settings.InvalidSettings) -> Finding:
    remedy = "correct that variable; `docs/settings.md` has them all"
    return Finding(Area.settings, "settings", Verdict.fail, str(error), remedy)


def _database(
    chosen: settings.Settings, now: Callable[[], dt.datetime], areas: frozenset[Area]
) -> Iterator[Finding]:
    try:
        found = list(server.look(chosen, now))
        yield from found
        # Whatever else fails, a database that answers with this program's schema can be read.
        if not any(one.subject == "schema" and one.verdict is Verdict.ok for one in found):
            return
        if Area.keys in areas:
            yield from keys.needed(chosen)
        if Area.backlog in areas:
            yield from _backlog(chosen, now())
        if Area.checks in areas:
            with database.transaction() as session:
                runs = check.last_runs(session, now=now())
            yield from work.of_checks(runs, now())
    except Exception as error:
        if failures.is_forbidden(error):
            yield _not_shown(areas)
            return
        if not (failures.is_unreachable(error) or failures.is_cut_short(error)):
            raise
        remedy = "see what it is busy with: pg_stat_activity, and what waits for locks"
        detail = f"did not answer in time: {failures.reason(error)}"
        yield Finding(Area.database, "database", Verdict.fail, detail, remedy)


def _not_shown(areas: frozenset[Area]) -> Finding:
    # What one role may not read, another one may: that is no fault of the system.
    seen = Area.backlog if Area.backlog in areas else Area.checks
    detail = "the database's role may not look at all that waits"
    remedy = "look with the DATABASE_URL of a member of billing_reader"
    return Finding(seen, "backlog", Verdict.ok, detail, remedy)


def _backlog(chosen: settings.Settings, now: dt.datetime) -> Iterator[Finding]:
    closed_by = now - dt.timedelta(hours=chosen.invoice_grace_hours)
    with database.transaction() as session:
        waiting = health.backlog(session, now=now)
        jobs = due.by_job(session, now=now, closed_by=closed_by)
    yield from work.of_backlog(waiting, now)
    yield work.of_jobs(jobs, now=now, closed_by=closed_by)

"""The whole system at one look: what runs, what waits, what is wrong."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models import database, failures
from models.store import check, due, health, overview
from models.store.overview import Overview
from tasks import config, stream
from tasks.queues import Queue
from worker import settings, standing
from worker.health import broker, work
from worker.health.finding import Finding, Verdict

ANSWER_SECONDS: Final = 1.0
"""How long workers get to answer: twice, and so long takes a look at least."""


@dataclass(frozen=True, slots=True)
class OfDatabase:
    """What the database knows; `findings` are those that somebody should look at."""

    backlog: health.Backlog
    jobs: Mapping[str, due.Due]
    overview: Overview
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class OfBroker:
    """What the broker and those who listen to it know.

    Args:
        queued: messages that wait, by queue.
        workers: how many answer, by queue.
        streamed: usage events that wait on the stream; None if none is drained.
        beat_seconds_ago: when beat was heard; None for never, or by nobody.
    """

    queued: Mapping[str, float]
    workers: Mapping[Queue, int]
    streamed: int | None
    beat_seconds_ago: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """One look. What could not be asked is None, and `away` says of each why."""

    at: dt.datetime
    database: OfDatabase | None
    broker: OfBroker | None
    away: Mapping[str, str]
    usage_per_second: float | None = None
    attempts_per_second: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the look as a JSON object."""
        return {
            "at": self.at.isoformat(),
            "away": dict(self.away),
            "usage_per_second": self.usage_per_second,
            "attempts_per_second": self.attempts_per_second,
            "database": None if self.database is None else _json(dataclasses.asdict(self.database)),
            "broker": None if self.broker is None else _json(dataclasses.asdict(self.broker)),
        }


def take(app: Celery, *, now: Callable[[], dt.datetime], before: Look | None = None) -> Look:
    """Look where `models.database`, `tasks.config` and the app are configured to.

    A server that does not answer costs the other's figures nothing.

    Args:
        before: an earlier look, for the rates between both.
    """
    at, away = now(), dict[str, str]()
    of_database: OfDatabase | None = None
    of_broker: OfBroker | None = None
    try:
        of_database = _of_database(at)
    except Exception as error:
        if not (failures.is_unreachable(error) or failures.is_cut_short(error)):
            raise
        away["database"] = failures.reason(error)
    try:
        of_broker = _of_broker(app)
    except (settings.InvalidSettings, OperationalError, RedisError, OSError) as error:
        away["broker"] = str(error)
    found = Look(at, of_database, of_broker, away)
    return found if before is None else _with_rates(found, before)


def _of_database(now: dt.datetime) -> OfDatabase:
    closed_by = now - config.current().invoice_grace
    with database.transaction() as session:
        backlog = health.backlog(session, now=now)
        jobs = due.by_job(session, now=now, closed_by=closed_by)
        runs = check.last_runs(session, now=now)
        found = overview.look(session)
    findings = (
        *work.of_backlog(backlog, now),
        work.of_jobs(jobs, now=now, closed_by=closed_by),
        *work.of_checks(runs, now),
    )
    wrong = tuple(one for one in findings if one.verdict is not Verdict.ok)
    return OfDatabase(backlog, jobs, found, wrong)


def _of_broker(app: Celery) -> OfBroker:
    with app.connection_for_read(connect_timeout=broker.ANSWER_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, timeout=broker.ANSWER_SECONDS)
        streamed = stream.backlog()
        workers = broker.listeners(app, connection, within=ANSWER_SECONDS)
        heard = (
            broker.beat_age(app, connection, within=ANSWER_SECONDS)
            if any(workers.values())
            else None
        )
        return OfBroker(
            queued=standing.queued(connection),
            workers=workers,
            streamed=None if streamed is None else streamed.waiting,
            beat_seconds_ago=heard,
        )


def _with_rates(look: Look, before: Look) -> Look:
    if look.database is None or before.database is None:
        return look
    seconds = (look.at - before.at).total_seconds()
    now, then = look.database.overview, before.database.overview
    if seconds <= 0:
        return look
    # The server's statistics may begin anew, after a crash of it: no rate is below nothing.
    return dataclasses.replace(
        look,
        usage_per_second=max(0.0, (now.usage_events - then.usage_events) / seconds),
        attempts_per_second=max(0.0, (now.attempts - then.attempts) / seconds),
    )


def _json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return value

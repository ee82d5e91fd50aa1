"""What `billing doctor` looks at: each finding is ok, a warning or a failure, with what to do."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models import database, migrations
from models.store import health, trial
from tasks import clock, config, stream
from tasks.queues import Queue
from worker import boot, settings

OLDEST_POSTGRES = 160_000
OVERDUE = dt.timedelta(minutes=5)
"""Work that waits longer than this is not merely busy."""

BEAT_SILENCE_SECONDS = 30.0
"""Beat rings every second; nothing heard for this long means that it is gone."""

ANSWER_SECONDS = 2.0
"""How long workers get to answer."""


class Verdict(StrEnum):
    """How a finding is to be taken."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when there is nothing to do."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding as a JSON object."""
        return asdict(self)


def examine(app: Celery, *, now: Callable[[], dt.datetime]) -> Iterator[Finding]:
    """Look at everything, in the order in which it depends on each other."""
    try:
        chosen = settings.load()
    except settings.InvalidSettings as error:
        yield Finding("settings", Verdict.fail, str(error), "correct the environment")
        return
    yield _master_keys(chosen)
    yield _trial_peppers(chosen)
    yield from _database(chosen, now)
    yield from _broker(chosen, app, now)


def of_backlog(waiting: health.Backlog, now: dt.datetime) -> Iterator[Finding]:
    """Judge what waits, by how long it does."""
    more = "check the workers and beat; more of them: `docker compose up --scale`"
    yield Finding("touched days", Verdict.ok, f"{waiting.touched_days} to roll up")
    yield _queue("outbox", waiting.outbox_pending, waiting.outbox_oldest, now, more)
    yield _queue("deliveries due", waiting.deliveries_due, waiting.delivery_oldest, now, more)
    yield Finding(
        "rejected messages",
        Verdict.warn if waiting.rejected_open else Verdict.ok,
        f"{waiting.rejected_open} open",
        "see `billing rejected list`" if waiting.rejected_open else "",
    )


def of_clock(apart: dt.timedelta) -> Finding:
    """Judge how far our clock is from the database's."""
    detail = f"differs by {apart.total_seconds():.1f} s from the database's"
    match clock.judge(apart):
        case clock.Judgement.fine:
            return Finding("clock", Verdict.ok, detail)
        case clock.Judgement.warn:
            return Finding("clock", Verdict.warn, detail, clock.REMEDY)
        case clock.Judgement.stop:
            said = f"{detail}: no webhook is sent from here"
            return Finding("clock", Verdict.fail, said, clock.REMEDY)


def _master_keys(chosen: settings.Settings) -> Finding:
    remedy = "set BILLING_MASTER_KEYS to what `billing keys new` prints, and keep it safe"
    try:
        ring = chosen.keyring()
    except settings.InvalidSettings as error:
        return Finding("master keys", Verdict.fail, str(error), remedy)
    if ring is None:
        return Finding("master keys", Verdict.warn, "none: webhooks can not be signed", remedy)
    detail = f"{len(ring.keys)}, the current one is {ring.current!r}"
    return Finding("master keys", Verdict.ok, detail)


def _trial_peppers(chosen: settings.Settings) -> Finding:
    remedy = "set BILLING_TRIAL_PEPPERS to what `billing keys new` prints, and keep it"
    try:
        found = chosen.peppers()
    except settings.InvalidSettings as error:
        return Finding("trial peppers", Verdict.fail, str(error), remedy)
    if found is None:
        return Finding("trial peppers", Verdict.warn, "none: no trials can be granted", remedy)
    detail = f"{len(found.secrets)}, the current one is {found.current!r}"
    return Finding("trial peppers", Verdict.ok, detail)


def _forgotten_peppers(chosen: settings.Settings, used: set[str]) -> Iterator[Finding]:
    try:
        found = chosen.peppers()
    except settings.InvalidSettings:
        return  # said above
    if gone := sorted(used - (found.secrets.keys() if found else set())):
        detail = f"trials were claimed under {', '.join(gone)}, which is not among those given"
        remedy = "put it behind the others in BILLING_TRIAL_PEPPERS, or who had one can have more"
        yield Finding("trial peppers used", Verdict.warn, detail, remedy)


def _database(chosen: settings.Settings, now: Callable[[], dt.datetime]) -> Iterator[Finding]:
    try:
        database.configure(chosen.database_options())
        with database.transaction() as session:
            before = now()
            server = health.server(session)
            apart = clock.difference(server.clock, before=before, after=now())
    except settings.InvalidSettings as error:
        yield Finding("database", Verdict.fail, str(error), "set DATABASE_URL or run `billing up`")
        return
    except Exception as error:
        if not database.is_unreachable(error):
            raise
        remedy = "start PostgreSQL, or correct DATABASE_URL"
        yield Finding("database", Verdict.fail, database.reason(error), remedy)
        return
    yield _version(server)
    yield of_clock(apart)
    schema = _schema()
    yield schema
    if schema.verdict is Verdict.ok:
        with database.transaction() as session:
            yield from of_backlog(health.backlog(session, now=now()), now())
            yield from _forgotten_peppers(chosen, trial.pepper_ids(session))


def _version(server: health.Server) -> Finding:
    detail = f"PostgreSQL {server.version // 10_000}.{server.version % 10_000}"
    if server.version >= OLDEST_POSTGRES:
        return Finding("database", Verdict.ok, detail)
    return Finding("database", Verdict.fail, detail, "upgrade it to 16 or newer")


def _schema() -> Finding:
    try:
        boot.require_current_schema()
    except boot.DatabaseBehind as error:
        return Finding("schema", Verdict.fail, str(error), "run `billing migrate`")
    found = migrations.current(database.engine())
    newer = "" if found == migrations.head() else f", works on the database's {found}"
    return Finding("schema", Verdict.ok, f"revision {migrations.head()}{newer}")


def _queue(
    subject: str, count: int, oldest: dt.datetime | None, now: dt.datetime, remedy: str
) -> Finding:
    age = now - oldest if oldest is not None else dt.timedelta(0)
    if age <= OVERDUE:
        return Finding(subject, Verdict.ok, f"{count} waiting")
    minutes = age.total_seconds() / 60
    detail = f"{count} waiting, the oldest for {minutes:.0f} minutes"
    return Finding(subject, Verdict.warn, detail, remedy)


def _broker(
    chosen: settings.Settings, app: Celery, now: Callable[[], dt.datetime]
) -> Iterator[Finding]:
    try:
        url = chosen.broker()
        with app.connection_for_read(url, connect_timeout=ANSWER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
            yield Finding("broker", Verdict.ok, connection.as_uri())
            if settings.is_redis(url):
                yield from _redis(connection.default_channel.client)
            yield _stream(chosen, now)
            yield from _workers(app, connection)
    except settings.InvalidSettings as error:
        yield Finding("broker", Verdict.fail, str(error), "set BROKER_URL or run `billing up`")
    except (OperationalError, RedisError, OSError) as error:
        remedy = "start the broker, or correct BROKER_URL"
        yield Finding("broker", Verdict.fail, f"can not be reached: {error}", remedy)


def _redis(client: Any) -> Iterator[Finding]:
    wanted = {
        "maxmemory-policy": ("noeviction", "or a full Redis drops messages"),
        "appendonly": ("yes", "or a restart of Redis loses messages"),
    }
    for name, (value, why) in wanted.items():
        try:
            found = client.config_get(name).get(name)
        except RedisError:
            yield Finding(name, Verdict.warn, "this Redis does not tell", f"make it {value!r}")
            continue
        verdict = Verdict.ok if found == value else Verdict.warn
        remedy = "" if found == value else f"set it to {value!r}, {why}"
        yield Finding(name, verdict, str(found), remedy)


def _stream(chosen: settings.Settings, now: Callable[[], dt.datetime]) -> Finding:
    config.use(chosen.task_config())
    try:
        found = stream.backlog()
    except RedisError as error:
        # A text of Redis names host and port, never the password.
        remedy = "start that Redis, or correct BILLING_USAGE_STREAM_URL"
        return Finding("usage stream", Verdict.fail, f"can not be read: {error}", remedy)
    if found is None:
        return Finding("usage stream", Verdict.ok, "off")
    remedy = "check the workers of the queue usage, and beat"
    return _queue("usage stream", found.waiting, found.oldest, now(), remedy)


def _workers(app: Celery, connection: Connection) -> Iterator[Finding]:
    asked = app.control.inspect(timeout=ANSWER_SECONDS, connection=connection)
    answers: dict[str, list[dict[str, Any]]] = asked.active_queues() or {}
    for queue in Queue:
        count = sum(any(entry["name"] == queue for entry in found) for found in answers.values())
        detail = f"{count} answering"
        if count:
            yield Finding(f"workers of {queue}", Verdict.ok, detail)
        else:
            remedy = f"run `billing worker --queues {queue}`"
            yield Finding(f"workers of {queue}", Verdict.fail, detail, remedy)
    yield _beat(app, connection, any_worker=bool(answers))


def _beat(app: Celery, connection: Connection, *, any_worker: bool) -> Finding:
    if not any_worker:
        return Finding("beat", Verdict.warn, "no worker to ask whether it rings")
    answers = (
        app.control.broadcast(
            "beat_heard", reply=True, timeout=ANSWER_SECONDS, connection=connection
        )
        or []
    )
    told = [answer for reply in answers for answer in reply.values()]
    ages = [age for answer in told if (age := answer.get("seconds_ago")) is not None]
    if ages and min(ages) <= BEAT_SILENCE_SECONDS:
        return Finding("beat", Verdict.ok, f"last heard {min(ages):.1f} s ago")
    heard = f"last heard {min(ages):.0f} s ago" if ages else "never heard by these workers"
    return Finding("beat", Verdict.fail, heard, "run `billing beat`: one, restarted when it dies")

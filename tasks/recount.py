"""The nightly check: are the totals what the events come to?"""

import datetime as dt
import time
from collections.abc import Sequence
from typing import TypedDict

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models import database
from models.check import Check
from models.rules import decimals
from models.store import recount
from models.store.recount import Drift
from tasks import checking, config, contract, fields, metrics
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from tasks.turns import Timed
from webhooks import events

DAYS = 3
"""Local days of each tenant that are counted again: yesterday and those before it."""

CHUNK = 200
"""Tenants that one transaction looks at."""

TIME_BUDGET = 100.0
"""Seconds after which a run leaves what is left to another one: below Celery's limits."""

MOST_LISTED = 100
"""Drifts that an answer lists; each is logged."""

log = structlog.get_logger(__name__)


class DriftAnswer(TypedDict):
    """A day whose total was not what its events come to; `stored` is None where there was none."""

    tenant_id: str
    metric: str
    day_start: dt.datetime
    stored: str | None
    counted: str


class RecountAnswer(TypedDict):
    """How many days were counted, how many had drifted, and the first of these.

    Of runs that find the same drift at once, one answers with it.
    `next_after` is None if every tenant was looked at, or else where a further run goes on.
    """

    days: int
    drifted: int
    drifts: list[DriftAnswer]
    next_after: str | None


@contract.job("billing.recount_usage", queue=Queue.usage)
def recount_usage(*, after: str = "", as_of: fields.Instant = contract.NOW) -> RecountAnswer:
    """Count the last three days of every tenant again and compare with their totals.

    Runs every night, by beat. Nothing should ever be found: a day that differs is logged as an
    error, is listed in the answer, is told to the operator (billing.usage_drifted), and is counted
    anew by the next roll-up, which tells subscribers its total. Days that wait for a roll-up are
    left out, and so are the oldest days of a tenant who has more events in three days than a run
    has time for; a warning names them. A run whose time is up sends a message for the rest. Nothing
    but the days to count, and that it looked, is written, so twice is harmless, and if it dies half
    way the next night looks again.

    Args:
        after: the tenant after whom to begin: `next_after` of a run whose time was up.
        as_of: what to call now; the days are those that are over by then, in each tenant's zone.
    """
    deadline = time.monotonic() + TIME_BUDGET
    days, drifts, last = 0, list[Drift](), after
    turns = Timed(deadline)
    while True:
        with database.transaction() as session:
            chunk = recount.check(
                session, after=last, limit=CHUNK, days=DAYS, now=as_of, turns=turns
            )
        if chunk.last_tenant_id is None:
            _enter(after, drifts, as_of, is_last=True)
            return _answer(days, drifts, None)
        days, last = days + chunk.days, chunk.last_tenant_id
        if chunk.left_out:
            log.warning("usage.recount_left_out", tenant_id=last, days=chunk.left_out)
        if chunk.drifts:
            drifts += _report(chunk.drifts, as_of)
        if time.monotonic() >= deadline:
            _enter(after, drifts, as_of, is_last=False)
            _go_on(last, as_of)
            return _answer(days, drifts, last)


def _enter(after: str, drifts: Sequence[Drift], now: dt.datetime, *, is_last: bool) -> None:
    checking.enter(Check.usage, began_at=now, after=after, is_last=is_last, findings=len(drifts))


def _go_on(after: str, as_of: dt.datetime) -> None:
    if not config.current().kick:
        return
    try:
        recount_usage.apply_async(
            kwargs={"after": after, "as_of": as_of.isoformat()}, ignore_result=True, retry=False
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("usage.recount_unfinished", next_after=after, reason=type(error).__name__)


def _report(drifts: tuple[Drift, ...], now: dt.datetime) -> list[Drift]:
    """Tell of what no other run has told, and return it."""
    with database.transaction() as session:
        news = recount.touch(session, drifts)
        announce_all(session, [_announcement(drift) for drift in news], now=now)
    for drift in news:
        log.error("usage.drift", **_drift(drift))
    metrics.USAGE_DRIFT.add(len(news))
    return news


def _announcement(drift: Drift) -> Announcement:
    event = events.UsageDrifted(
        tenant_id=drift.tenant_id,
        metric=drift.metric,
        day_start=drift.day_start,
        stored=drift.stored,
        counted=drift.counted,
    )
    return Announcement(event, drift.tenant_id, sequence=0)


def _answer(days: int, drifts: list[Drift], next_after: str | None) -> RecountAnswer:
    return {
        "days": days,
        "drifted": len(drifts),
        "drifts": [_drift(drift) for drift in drifts[:MOST_LISTED]],
        "next_after": next_after,
    }


def _drift(drift: Drift) -> DriftAnswer:
    return {
        "tenant_id": drift.tenant_id,
        "metric": drift.metric,
        "day_start": drift.day_start,
        "stored": None if drift.stored is None else decimals.plain(drift.stored),
        "counted": decimals.plain(drift.counted),
    }

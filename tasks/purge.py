"""What was told long ago leaves: attempts by the day, dead deliveries, events with their bodies."""

import datetime as dt
import time
from typing import TypedDict
from uuid import UUID

import structlog

from models import database, failures
from models.store import delivery_purge, endpoint_secret, partition
from tasks import config, contract, fields
from tasks.queues import Queue

BUDGET = 60.0
"""Seconds after which a run begins no further chunk; the next run goes on."""

STRAY = 5_000
"""Attempts without a partition of their own that one transaction deletes."""

KEYS_LINGER = dt.timedelta(days=1)
"""How long an expired key is kept: senders whose clock is slow still sign with it."""

log = structlog.get_logger(__name__)


class PurgeAnswer(TypedDict):
    """What left. `is_done` is false when there may be more: the next run goes on."""

    days: list[str]
    stray_attempts: int
    dead: int
    events: int
    deliveries: int
    keys: int
    is_done: bool


class _Run:
    """One run: what it may still do, and whether it had to leave something."""

    def __init__(self, as_of: dt.datetime) -> None:
        terms = config.current().webhook_retention
        self.attempts_before = as_of - terms.attempts
        self.events_before = as_of - terms.events
        self.dead_before = as_of - terms.dead
        self.keys_before = as_of - KEYS_LINGER
        self.is_done = True
        self._ends_at = time.monotonic() + BUDGET

    def has_time(self) -> bool:
        """Tell whether another chunk may begin; if not, the run is not done."""
        if time.monotonic() < self._ends_at:
            return True
        self.is_done = False
        return False


@contract.job("billing.purge", queue=Queue.webhooks)
def purge(*, as_of: fields.Instant = contract.NOW) -> PurgeAnswer:
    """Delete attempts, dead deliveries and events that are older than the settings say.

    Never what is still owed: an event that waits to be relayed, or has a delivery that waits, is
    under way or is held, stays whole however old it is. Attempts leave by the day. Runs every hour.
    Twice is harmless, also at the same time. It goes in chunks, each a transaction of its own, so
    if it dies half way the next run goes on.

    Args:
        as_of: what is old enough then.
    """
    run = _Run(as_of)
    days, stray = _drop_days(run), _delete_stray(run)
    dead = _delete_dead(run)
    events, deliveries = _delete_events(run)
    with database.transaction() as session:
        keys = endpoint_secret.forget_expired(session, expired_by=run.keys_before)
    answer: PurgeAnswer = {
        "days": days,
        "stray_attempts": stray,
        "dead": dead,
        "events": events,
        "deliveries": deliveries,
        "keys": keys,
        "is_done": run.is_done,
    }
    if days or stray or dead or events or keys:
        log.info("webhooks.purged", **{**answer, "days": len(days)})
    return answer


def _drop_days(run: _Run) -> list[str]:
    """Drop the partitions of days that are over since long enough."""
    with database.transaction() as session:
        days = partition.days_before(session, run.attempts_before.astimezone(dt.UTC).date())
    dropped = []
    for day in days:
        try:
            with database.transaction() as session:
                if partition.drop_day(session, day):
                    dropped.append(day.isoformat())
        except Exception as error:
            if not failures.is_lock_timeout(error):
                raise
            run.is_done = False
            log.warning("partitions.busy", day=day.isoformat())
            break
    return dropped


def _delete_stray(run: _Run) -> int:
    deleted = 0
    while run.has_time():
        with database.transaction() as session:
            gone = partition.delete_stray(session, before=run.attempts_before, most=STRAY)
        deleted += gone
        if gone < STRAY:
            break
    return deleted


def _delete_dead(run: _Run) -> int:
    with database.transaction() as session:
        found = delivery_purge.find_dead(session, before=run.dead_before)
    if len(found) == delivery_purge.MOST_DEAD:
        run.is_done = False
    deleted = 0
    for start in range(0, len(found), delivery_purge.CHUNK):
        if not run.has_time():
            break
        with database.transaction() as session:
            chunk = found[start : start + delivery_purge.CHUNK]
            deleted += delivery_purge.delete_dead(session, chunk, before=run.dead_before)
    return deleted


def _delete_events(run: _Run) -> tuple[int, int]:
    events = deliveries = 0
    after: UUID | None = UUID(int=0)
    while after is not None and run.has_time():
        with database.transaction() as session:
            gone = delivery_purge.delete_events(
                session, after=after, before=run.events_before, dead_before=run.dead_before
            )
        events += gone.events
        deliveries += gone.deliveries
        after = gone.last
    return events, deliveries

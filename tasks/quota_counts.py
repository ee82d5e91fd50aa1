"""Usage that was recorded past the quotas is counted in them, and every count is proved."""

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
from models.store import quota_counts
from models.store.quota_counts import Drift, Pair
from tasks import checking, config, contract, fields, metrics
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from tasks.quotas import tell_exceeded
from webhooks import events

PAIRS_CHUNK = 200
"""Tenants' metrics that one transaction counts: each is locked until it ends."""

TENANTS_CHUNK = 200
"""Tenants whose counters one transaction proves."""

FORGET_CHUNK = 10_000
"""Counters that one transaction forgets."""

COUNT_SECONDS = 45.0
"""How long one run counts: beat rings again."""

RECOUNT_SECONDS = 100.0
"""How long one run proves; it leaves the rest to another. Below Celery's limits."""

MOST_LISTED = 100
"""Drifts that an answer lists; each is logged."""

log = structlog.get_logger(__name__)


class CountAnswer(TypedDict):
    """How many tenants' metrics were counted, and how many windows are newly exceeded."""

    counted: int
    exceeded: int


class QuotaDriftAnswer(TypedDict):
    """A counter that was not what the events of its window come to."""

    tenant_id: str
    metric: str
    window: str
    window_start: str
    stored: str
    counted: str


class RecountQuotasAnswer(TypedDict):
    """How many counters were proved, how many had drifted, the first of these, and how many old
    ones were forgotten.

    `next_after` is None if every tenant was looked at, or else where a further run goes on.
    """

    counters: int
    drifted: int
    drifts: list[QuotaDriftAnswer]
    forgotten: int
    next_after: str | None


@contract.job("billing.count_quotas", queue=Queue.usage)
def count_quotas(*, as_of: fields.Instant = contract.NOW) -> CountAnswer:
    """Count usage that was recorded or voided past billing.consume_entitlement in the quotas.

    Runs every few seconds, by beat. Limits are exact without it: whoever asks counts what has
    arrived. It keeps that short, and tells subscribers (billing.quota_exceeded, once a window) when
    usage that was merely recorded goes beyond a limit. Twice, or twice at once, is harmless: what
    has arrived is counted once, and a tenant's metric that somebody else counts is passed over. If
    it dies half way the chunks behind it stay done.
    """
    deadline = time.monotonic() + COUNT_SECONDS
    counted = exceeded = 0
    after: Pair | None = quota_counts.BEGINNING
    while after is not None and time.monotonic() < deadline:
        with database.transaction() as session:
            chunk = quota_counts.fold(session, after=after, limit=PAIRS_CHUNK, now=as_of)
            exceeded += tell_exceeded(session, chunk.exceeded, now=as_of)
        counted += chunk.pairs
        after = chunk.last
    return {"counted": counted, "exceeded": exceeded}


@contract.job("billing.recount_quotas", queue=Queue.usage)
def recount_quotas(*, after: str = "", as_of: fields.Instant = contract.NOW) -> RecountQuotasAnswer:
    """Add up the events behind every quota counter again, and compare.

    Runs every night, by beat. Nothing should ever be found: a counter that differs is logged as an
    error, is listed in the answer, is told to the operator (billing.quota_drifted), and is made
    what the events come to. Counters of windows that ended more than three days ago are forgotten.
    A run whose time is up sends a message for the rest. Twice is harmless, and if it dies half way
    the next night looks again.

    Args:
        after: the tenant after whom to begin: `next_after` of a run whose time was up.
        as_of: what to call now.
    """
    deadline = time.monotonic() + RECOUNT_SECONDS
    forgotten = _forget(deadline, as_of)
    counters, drifts, last = 0, list[Drift](), after
    while True:
        with database.transaction() as session:
            chunk = quota_counts.check(session, after=last, limit=TENANTS_CHUNK)
        if chunk.last_tenant_id is None:
            _enter(after, drifts, as_of, is_last=True)
            return _answer(counters, drifts, forgotten, None)
        counters, last = counters + chunk.counters, chunk.last_tenant_id
        for tenant_id, metric in sorted({(each.tenant_id, each.metric) for each in chunk.drifts}):
            drifts += _mend(tenant_id, metric, as_of)
        if time.monotonic() >= deadline:
            _enter(after, drifts, as_of, is_last=False)
            _go_on(last, as_of)
            return _answer(counters, drifts, forgotten, last)


def _enter(after: str, drifts: Sequence[Drift], now: dt.datetime, *, is_last: bool) -> None:
    checking.enter(Check.quotas, began_at=now, after=after, is_last=is_last, findings=len(drifts))


def _mend(tenant_id: str, metric: str, now: dt.datetime) -> list[Drift]:
    with database.transaction() as session:
        mended = quota_counts.mend(session, tenant_id=tenant_id, metric=metric, now=now)
        announce_all(session, [_announcement(drift) for drift in mended], now=now)
    for drift in mended:
        log.error("quota.drift", **_drift(drift))
    metrics.QUOTA_DRIFT.add(len(mended))
    return mended


def _go_on(after: str, as_of: dt.datetime) -> None:
    if not config.current().kick:
        return
    try:
        recount_quotas.apply_async(
            kwargs={"after": after, "as_of": as_of.isoformat()}, ignore_result=True, retry=False
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("quota.recount_unfinished", next_after=after, reason=type(error).__name__)


def _forget(deadline: float, now: dt.datetime) -> int:
    forgotten = 0
    while time.monotonic() < deadline:
        with database.transaction() as session:
            gone = quota_counts.forget(session, limit=FORGET_CHUNK, now=now)
        forgotten += gone
        if gone < FORGET_CHUNK:
            break
    return forgotten


def _announcement(drift: Drift) -> Announcement:
    event = events.QuotaDrifted(
        tenant_id=drift.tenant_id,
        metric=drift.metric,
        window=drift.window.value,
        window_start=drift.window_start,
        stored=drift.stored,
        counted=drift.counted,
    )
    return Announcement(event, drift.tenant_id, sequence=0)


def _answer(
    counters: int, drifts: Sequence[Drift], forgotten: int, next_after: str | None
) -> RecountQuotasAnswer:
    return {
        "counters": counters,
        "drifted": len(drifts),
        "drifts": [_drift(drift) for drift in drifts[:MOST_LISTED]],
        "forgotten": forgotten,
        "next_after": next_after,
    }


def _drift(drift: Drift) -> QuotaDriftAnswer:
    return {
        "tenant_id": drift.tenant_id,
        "metric": drift.metric,
        "window": drift.window.value,
        "window_start": drift.window_start.isoformat(),
        "stored": decimals.plain(drift.stored),
        "counted": decimals.plain(drift.counted),
    }

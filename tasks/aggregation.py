"""Roll-up: absolute totals of what was used, told to subscribers when those of a day change."""

import datetime as dt
import time
from collections.abc import Collection, Sequence
from typing import TypedDict
from zoneinfo import ZoneInfo

from models import database
from models.rules import decimals, period
from models.rules.refusal import Refusal
from models.store import aggregate, counted, meter_touch, tenant
from tasks import announce, contract, fields, metrics
from tasks.queues import Queue
from tasks.turns import Timed
from webhooks import events

CHUNK = 2_000
"""Rows of the log of touched days that one transaction takes, a row for each message of usage.

Of messages of a thousand events that is a few seconds' work. Many rows name the same day, and the
more of them are taken together, the fewer times it is counted.
"""

TENANTS_CHUNK = 500
"""Tenants whose days one transaction looks at when a meter has changed."""

TIME_BUDGET = 60.0
"""Seconds after which a run begins no further chunk: below Celery's limits; beat rings again."""

CHUNK_BUDGET = 20.0
"""Seconds after which a chunk's transaction leaves what is not counted yet to the next one."""


class RollUpAnswer(TypedDict):
    """How many days were counted, and how many totals are new or have changed."""

    days: int
    changed: int


class DayAnswer(TypedDict):
    """The absolute total of one local day. `day_start` is the instant it begins."""

    tenant_id: str
    metric: str
    day_start: dt.datetime
    total: str


class NotADay(Refusal):
    """What was given is not the beginning of a day of the tenant."""

    code = "usage.not_a_day"


@contract.job("billing.aggregate_usage", queue=Queue.usage)
def aggregate_usage(
    *, tenant_id: fields.TenantId | None = None, as_of: fields.Instant = contract.NOW
) -> RollUpAnswer:
    """Bring the totals of every touched day and its month up to date; announce days that changed.

    Days that a change of a meter left open are touched first. Runs every few seconds, by beat.
    Twice, or twice at once, is harmless: totals are counted from the events, one run leaves out the
    days another one is counting, and a total that is the same is neither written nor announced. If
    it dies half way the chunk it was in is undone, its days are still in the log, and the next run
    counts them.

    Args:
        tenant_id: only this tenant's days; without it everyone's.
        as_of: what to call now.
    """
    deadline = time.monotonic() + TIME_BUDGET
    while _touch_open() and time.monotonic() < deadline:
        pass
    if tenant_id is not None:
        with database.transaction() as session:
            return roll_up_in(session, [tenant_id], now=as_of)
    days = changed = 0
    while True:
        began = time.monotonic()
        with database.transaction() as session:
            chunk = aggregate.roll_up(
                session, limit=CHUNK, now=as_of, turns=Timed(began + CHUNK_BUDGET)
            )
            _announce(session, chunk.changed, now=as_of)
        if chunk.days:
            metrics.AGGREGATE_MS.take(time.monotonic() - began)
        days += chunk.days
        changed += len(chunk.changed)
        if chunk.is_last or time.monotonic() > deadline:
            return {"days": days, "changed": changed}


@contract.command("billing.aggregate_daily", queue=Queue.usage)
def aggregate_daily(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    metric: fields.Metric,
    day_start: fields.DayStart,
    as_of: fields.Instant = contract.NOW,
) -> DayAnswer:
    """Count one metric on one local day and announce the total if it is new or has changed.

    Runs when an operator or a producer sends it, to have a day's total now. Twice is harmless: the
    total is counted from the events, and the same total is not announced again. If it dies half way
    nothing has changed.

    Args:
        tenant_id: whose usage.
        metric: of what.
        day_start: the tenant's local day as a date (YYYY-MM-DD), or the instant it begins.
        as_of: what to call now.

    Raises:
        UnknownTenant: there is no such tenant.
        NotADay: the tenant's zone has no such day, or none that begins at that instant.
    """
    aggregate.lock_tenants(session, [tenant_id])
    zone = period.zone(tenant.get(session, tenant_id).timezone)
    bounds = _day(day_start, zone)
    day = aggregate.Day(tenant_id, metric, bounds.start, bounds.end)
    _announce(session, aggregate.count(session, [day], now=as_of, turns=Timed()), now=as_of)
    total = aggregate.totals(
        session, [aggregate.Wanted(tenant_id, metric, bounds.start, bounds.end)]
    )[0]
    return {
        "tenant_id": tenant_id,
        "metric": metric,
        "day_start": bounds.start,
        "total": decimals.plain(total),
    }


def roll_up_in(
    session: database.Session, tenant_ids: Collection[str], *, now: dt.datetime
) -> RollUpAnswer:
    """Roll up and announce all that was touched of some tenants, in the caller's transaction.

    For an invoice that must count every event committed before it: it waits for a roll-up of them
    which is under way. Call it before the transaction locks anything else.
    """
    rolled_up = aggregate.roll_up_tenants(session, tenant_ids, now=now, turns=Timed())
    _announce(session, rolled_up.changed, now=now)
    return {"days": rolled_up.days, "changed": len(rolled_up.changed)}


def _touch_open() -> bool:
    with database.transaction() as session:
        return meter_touch.touch_open(session, limit=TENANTS_CHUNK)


def _announce(
    session: database.Session, changed: Sequence[counted.Changed], *, now: dt.datetime
) -> None:
    announce.announce_all(
        session,
        [
            announce.Announcement(
                events.UsageAggregated(
                    tenant_id=day.tenant_id,
                    metric=day.metric,
                    day_start=day.day_start,
                    total=day.total,
                ),
                tenant_id=day.tenant_id,
                sequence=day.version,
            )
            for day in changed
        ],
        now=now,
    )


def _day(given: dt.date | dt.datetime, zone: ZoneInfo) -> period.Period:
    date = period.local_day(given, zone) if isinstance(given, dt.datetime) else given
    try:
        bounds = period.day_bounds(date, zone)
    except period.EmptyPeriod:
        raise NotADay(
            f"day_start {given.isoformat()} is a day that {zone.key} skipped; give another one",
            field="day_start",
        ) from None
    if isinstance(given, dt.datetime) and given != bounds.start:
        raise NotADay(
            f"day_start {given.isoformat()} is not a midnight in {zone.key}: that day begins at "
            f"{bounds.start.isoformat()}; give that, or the date {date.isoformat()}",
            field="day_start",
        )
    return bounds

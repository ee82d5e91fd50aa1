"""What giving a subscription its plan's credit is made of: periods, batches, what is carried on."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice, takewhile
from typing import Final
from uuid import UUID

import structlog

from models import database
from models.rules import allocation as rules
from models.rules import billing, ids, period
from models.rules.allocation import Rollover, Slot, Version
from models.rules.billing import Subscription
from models.store import (
    allocation,
    allocation_due,
    credit_locking,
    plan_credit,
    product,
    subscription,
    tenant,
)
from models.store.allocation import Allocation
from models.store.allocation_due import Progress
from tasks import allotment, carrying, config, granting
from tasks.allotment import Work
from tasks.announce import Announcement, announce_all
from webhooks import events

MOST_PERIODS: Final = 24
"""Periods of one subscription in one transaction; more wait for the next."""

SOURCE: Final = "plan"
"""Of the batches."""

log = structlog.get_logger(__name__)


def begin(session: database.Session, one: Subscription, *, now: dt.datetime) -> None:
    """Give a new subscription what it is due already, and let it be looked at from then on."""
    if not plan_credit.versions(session, one.plan_key):
        return
    allocation_due.open_(session, one.id, next_at=now)
    progress = allocation_due.claim(session, one.id)
    if progress is not None:
        allocate(session, progress, now=now)


def allocate(
    session: database.Session, progress: Progress, *, now: dt.datetime, asked: bool = False
) -> int:
    """Give a claimed subscription the credit of every period that is due, in order, and carry on
    what is left of periods that are over. Return how many allocations were made.

    Credit that would be over already is entered as given and not granted; it can still be carried
    on. After 24 periods the subscription stays due for the rest.

    Args:
        asked: somebody asked for this subscription, so that it gets the current period also if it
            does not renew by itself.
    """
    work = _work(session, progress.subscription_id, now)
    slots = _slots(work, progress, asked=asked)
    known = _known(session, progress, slots)
    wanted = _wanted(session, work, slots, known)
    _lock(session, work, known, wanted)
    made: list[Allocation] = []
    for slot, version in wanted:
        made.append(_make(session, work, slot, version, [*known, *made]))
    allocation.add(session, made, now=now)
    waits_until = carrying.carry_on(session, work, [*known, *made])
    until = slots[-1].days.after if slots else progress.allocated_until
    next_at = min([*_next_start(work, until), *waits_until], default=None)
    allocation_due.move(session, Progress(progress.subscription_id, until, next_at))
    return len(made)


def _work(session: database.Session, subscription_id: UUID, now: dt.datetime) -> Work:
    one = subscription.get(session, subscription_id)
    zone = period.zone(tenant.get(session, one.tenant_id).timezone)
    versions = plan_credit.versions(session, one.plan_key)
    return Work(one, zone, versions, config.current().allocate_ahead, now)


def _slots(work: Work, progress: Progress, *, asked: bool) -> list[Slot]:
    """The periods to look at; those for which the plan gives nothing do not count as work."""
    slots = rules.slots(work.subscription, work.zone, since=progress.allocated_until)
    due = takewhile(lambda slot: slot.starts_at - work.ahead <= work.now, slots)
    if work.subscription.auto_renew:
        return _enough(work, due)
    if asked:
        return [slot for slot in due if slot.starts_at <= work.now][-1:]
    return list(islice(due, 1)) if progress.allocated_until is None else []


def _enough(work: Work, due: Iterable[Slot]) -> list[Slot]:
    slots: list[Slot] = []
    left = MOST_PERIODS
    for slot in due:
        slots.append(slot)
        left -= bool(rules.versions_at(work.versions, slot.starts_at))
        if left == 0:
            break
    return slots


def _known(
    session: database.Session, progress: Progress, slots: Sequence[Slot]
) -> list[Allocation]:
    """The allocations that matter: of these periods, of those that wait, and those before."""
    waiting = allocation.first_waiting(session, progress.subscription_id)
    days = [day for day in (waiting, slots[0].days.first if slots else None) if day is not None]
    return allocation.since(session, progress.subscription_id, min(days)) if days else []


def _wanted(
    session: database.Session, work: Work, slots: Sequence[Slot], known: Sequence[Allocation]
) -> list[tuple[Slot, Version]]:
    there = {(one.product_key, one.days.first) for one in known}
    wanted = []
    for slot in slots:
        for version in rules.versions_at(work.versions, slot.starts_at):
            key = version.terms.product_key
            if (key, slot.days.first) in there:
                continue
            if product.get(session, key).active:
                wanted.append((slot, version))
            else:
                log.warning(
                    "allocation.product_inactive",
                    subscription_id=str(work.subscription.id),
                    tenant_id=work.subscription.tenant_id,
                    product_key=key,
                )
    return wanted


def _lock(
    session: database.Session,
    work: Work,
    known: Sequence[Allocation],
    wanted: Sequence[tuple[Slot, Version]],
) -> None:
    keys = {version.terms.product_key for _, version in wanted}
    keys |= {one.product_key for one in known if one.carried is None}
    if keys:
        tenant_id = work.subscription.tenant_id
        credit_locking.lock(session, tenant_id=tenant_id, product_keys=keys, now=work.now)


def _make(
    session: database.Session,
    work: Work,
    slot: Slot,
    version: Version,
    before: Sequence[Allocation],
) -> Allocation:
    one, zone, terms = work.subscription, work.zone, version.terms
    amount = rules.amount(terms, slot, one, zone)
    made = Allocation(
        id=ids.uuid7(work.now),
        tenant_id=one.tenant_id,
        subscription_id=one.id,
        plan_credit_id=version.id,
        product_key=terms.product_key,
        days=slot.days,
        period_start=billing.midnight(slot.days.first, zone),
        period_end=billing.midnight(slot.days.after, zone),
        amount=amount,
        batch_id=None,
        carried=Decimal(0),
    )
    previous = allotment.previous(made, before)
    if previous is not None and work.terms(previous).rollover is not Rollover.none:
        made = replace(made, carried=None)
    expires_at = rules.expires_at(terms, slot, one, zone)
    if amount == 0 or expires_at <= work.now:
        return made
    lot = granting.Lot(terms.product_key, amount, expires_at, SOURCE, valid_from=slot.starts_at)
    done = allotment.grant(session, work, made, lot)
    _tell(session, work, made, done)
    return replace(made, batch_id=done.granted.batch_id)


def _next_start(work: Work, until: dt.date | None) -> list[dt.datetime]:
    """When the next period is due, if the plan will give something for it."""
    if not work.subscription.auto_renew and until is not None:
        return []
    slot = next(rules.slots(work.subscription, work.zone, since=until), None)
    if slot is None or not any(
        version.ended_at is None or version.ended_at > slot.starts_at for version in work.versions
    ):
        return []
    return [slot.starts_at - work.ahead]


def _tell(session: database.Session, work: Work, one: Allocation, done: granting.Done) -> None:
    event = events.SubscriptionCreditsAllocated(
        tenant_id=one.tenant_id,
        subscription_id=one.subscription_id,
        plan_key=work.subscription.plan_key,
        product_key=one.product_key,
        batch_id=done.granted.batch_id,
        amount=one.amount,
        period_start=one.period_start,
        period_end=one.period_end,
        expires_at=done.lot.expires_at or one.period_end,
    )
    announce_all(session, [Announcement(event, one.tenant_id, done.granted.version)], now=work.now)

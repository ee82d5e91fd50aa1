"""Plans' credit: given to one subscription, and to every one that is due."""

import datetime as dt
import time
from collections.abc import Collection, Iterator
from typing import Final, TypedDict
from uuid import UUID

import structlog

from models import database, failures
from models.rules import decimals, period
from models.rules.refusal import Refusal
from models.store import allocation, allocation_due, inbox, subscription, tenant
from models.store.allocation import Allocation
from models.store.allocation_due import Due
from tasks import allocating, contract, fields
from tasks.queues import Queue

CHUNK: Final = 500
"""Subscriptions that are looked up at a time. Each is a transaction of its own."""

RUN_SECONDS: Final = 100.0
"""When a run begins with no further subscription: before Celery's soft limit; beat rings again."""

log = structlog.get_logger(__name__)


class AllocationAnswer(TypedDict):
    """A product's credit of one period. `carried` is null until the period before has ended.

    `batch_id` and `carried_batch_id` are null for what was over before it could be granted, or is
    nothing.
    """

    product_key: str
    period_start: dt.datetime
    period_end: dt.datetime
    amount: str
    batch_id: UUID | None
    carried: str | None
    carried_batch_id: UUID | None


class Allocated(TypedDict):
    """What a subscription has for the current period and later; `made` of it only now."""

    subscription_id: UUID
    tenant_id: str
    made: int
    allocations: list[AllocationAnswer]


class Renewed(TypedDict):
    """What a run did. `finished` is false when its time was up before its work was."""

    subscriptions: int
    allocations: int
    failed: int
    finished: bool


@contract.command("billing.allocate_subscription_credits", queue=Queue.billing)
def allocate_subscription_credits(
    session: database.Session,
    *,
    subscription_id: UUID,
    as_of: fields.Instant = contract.NOW,
) -> Allocated:
    """Give a subscription its plan's credit of every period that is due and has none, in order.

    Runs when somebody asks; as a rule billing.set_subscription and billing.renew_subscriptions have
    done it before. A subscription that does not renew by itself gets the current period. Twice is
    harmless: each product and period is given once, which a unique row proves. If it dies half way
    nothing was given. Emits billing.subscription_credits_allocated and billing.credits_granted for
    each batch.

    What a period gives can be spent from its beginning until its end, or for the plan's days of
    validity. What is left of the period before is carried on by the plan's rule, as a batch of its
    own that is spent first. A period that is over already is entered without a batch.

    Refused with code `subscription.unknown`.

    Args:
        subscription_id: which one.
        as_of: what is due at this instant, or within an hour (a setting) behind it.
    """
    one = subscription.get(session, subscription_id)
    progress = allocation_due.claim(session, subscription_id)
    made = 0
    if progress is not None:
        made = allocating.allocate(session, progress, now=as_of, asked=True)
    zone = period.zone(tenant.get(session, one.tenant_id).timezone)
    there = allocation.since(session, subscription_id, period.local_day(as_of, zone))
    return {
        "subscription_id": subscription_id,
        "tenant_id": one.tenant_id,
        "made": made,
        "allocations": [_answer(found) for found in there if found.period_end > as_of],
    }


@contract.job("billing.renew_subscriptions", queue=Queue.billing)
def renew_subscriptions(*, as_of: fields.Instant = contract.NOW) -> Renewed:
    """Give every subscription the plan's credit that is due, and carry on what is left.

    Beat rings it every minute. It walks through what is due, the longest due first, one transaction
    a subscription; any number of workers may run it at once, each passes over what another holds.
    Twice is harmless: a product and period is given once, which a unique row proves. If it dies
    what was committed stays and the rest is still due. After a downtime every period is caught up
    in order. A subscription that can not be given its credit is kept in rejected_messages, stops no
    other, and is tried again by the next run.
    """
    until = time.monotonic() + RUN_SECONDS
    subscriptions = allocations = 0
    failed: set[UUID] = set()
    # A pass that found something is followed by another: some are more periods behind than one
    # transaction takes.
    while time.monotonic() < until:
        made = [_renew(due, as_of, failed) for due in _due(as_of, failed, until)]
        done = [count for count in made if count is not None]
        subscriptions += len(done)
        allocations += sum(done)
        if not done and time.monotonic() < until:
            return _renewed(subscriptions, allocations, failed, finished=True)
    return _renewed(subscriptions, allocations, failed, finished=False)


def _due(now: dt.datetime, failed: Collection[UUID], until: float) -> Iterator[Due]:
    """Walk once through what is due, page by page, until the time is up."""
    after: Due | None = None
    while True:
        with database.transaction() as session:
            page = allocation_due.find_due(session, now=now, after=after, limit=CHUNK)
        for due in page:
            if time.monotonic() >= until:
                return
            if due.subscription_id not in failed:
                yield due
        if len(page) < CHUNK:
            return
        after = page[-1]


def _renew(due: Due, now: dt.datetime, failed: set[UUID]) -> int | None:
    """Give one subscription what is due; None if another worker has it, or it can not be given."""
    try:
        with database.transaction() as session:
            progress = allocation_due.claim_free(session, due.subscription_id)
            if progress is None or progress.next_at is None or progress.next_at > now:
                return None
            return allocating.allocate(session, progress, now=now)
    except Exception as error:
        if failures.is_retryable(error) or failures.is_unreachable(error):
            raise
        failed.add(due.subscription_id)
        _keep(due.subscription_id, error, now)
        return None


def _keep(subscription_id: UUID, error: Exception, now: dt.datetime) -> None:
    """Keep the call that would give it, ready to be replayed."""
    payload = {"subscription_id": str(subscription_id)}
    reason = error.message if isinstance(error, Refusal) else f"{type(error).__name__}: see the log"
    rejection = inbox.Rejection(
        task="billing.allocate_subscription_credits",
        tenant_id=None,
        payload=payload,
        code=error.code if isinstance(error, Refusal) else "unexpected",
        errors=[{"field": None, "reason": reason}],
    )
    with database.transaction() as session:
        ids = inbox.keep_rejections(session, [rejection], now=now)
    log.warning("allocation.failed", rejected_message_id=ids[0], exc_info=error, **payload)


def _renewed(
    subscriptions: int, allocations: int, failed: Collection[UUID], *, finished: bool
) -> Renewed:
    return {
        "subscriptions": subscriptions,
        "allocations": allocations,
        "failed": len(failed),
        "finished": finished,
    }


def _answer(one: Allocation) -> AllocationAnswer:
    return {
        "product_key": one.product_key,
        "period_start": one.period_start,
        "period_end": one.period_end,
        "amount": decimals.plain(one.amount),
        "batch_id": one.batch_id,
        "carried": None if one.carried is None else decimals.plain(one.carried),
        "carried_batch_id": one.carried_batch_id,
    }

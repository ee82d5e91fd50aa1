"""Credit of periods that a subscription will not see after all: taken back before they begin."""

import datetime as dt
from collections.abc import Sequence

from models import database
from models.rules import period
from models.rules.billing import Subscription
from models.store import allocation, allocation_due, credit, credit_revoking, tenant
from models.store.allocation import Allocation
from models.store.allocation_due import Progress
from models.store.credit_revoking import Decision, Selector
from tasks import batches
from tasks.announce import announce_all


def beyond_end(session: database.Session, one: Subscription, *, now: dt.datetime) -> None:
    """Take back the credit of periods behind the end of a subscription; its tenant is locked.

    The period in which it ends keeps what was granted for it, until that expires. If the end was
    moved on, the periods before it are due again.
    """
    progress = allocation_due.claim(session, one.id)
    if progress is None:
        return
    zone = period.zone(tenant.get(session, one.tenant_id).timezone)
    after = one.days(zone).after
    there = allocation.since(session, one.id, after)
    gone = [found for found in there if found.days.first >= after]
    _withdraw(session, gone, "billing.end_subscription", f"the subscription ended on {after}", now)
    _look_again(session, progress, gone, now)


def ahead(session: database.Session, one: Subscription, *, now: dt.datetime) -> None:
    """Take back the credit of periods that have not begun; the subscription's tenant is locked."""
    progress = allocation_due.claim(session, one.id)
    if progress is None:
        return
    zone = period.zone(tenant.get(session, one.tenant_id).timezone)
    there = allocation.since(session, one.id, period.local_day(now, zone))
    gone = [found for found in there if found.period_start > now]
    _withdraw(session, gone, "billing.set_auto_renew", "the subscription does not renew", now)
    _look_again(session, progress, gone, now)


def _withdraw(
    session: database.Session, gone: Sequence[Allocation], by: str, reason: str, now: dt.datetime
) -> None:
    if not gone:
        return
    tenant_id, subscription_id = gone[0].tenant_id, gone[0].subscription_id
    decision = Decision(
        reason=reason,
        actor=by,
        cause=credit.Cause(by, str(subscription_id)),
        details={"subscription_id": str(subscription_id)},
    )
    batch_ids = [batch_id for one in gone for batch_id in one.batch_ids]
    outcome = credit_revoking.revoke(
        session, Selector(batch_ids=batch_ids), decision, tenant_id=tenant_id, now=now
    )
    announce_all(session, batches.what_revoking_tells(tenant_id, outcome), now=now)
    allocation.withdraw(session, gone, now=now)


def _look_again(
    session: database.Session, progress: Progress, gone: Sequence[Allocation], now: dt.datetime
) -> None:
    """Let the renewal find out what is due now; periods taken back count as not looked at."""
    days = [one.days.first for one in gone]
    if progress.allocated_until is not None:
        days.append(progress.allocated_until)
    until = min(days, default=None)
    allocation_due.move(session, Progress(progress.subscription_id, until, now))

"""Whether each further period of a subscription gets its plan's credit."""

import datetime as dt
from typing import TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.rules import period
from models.rules.billing import Subscription
from models.store import allocation_due, subscription, subscription_change
from models.store.allocation_due import Progress
from tasks import contract, fields, withdrawing
from tasks.queues import Queue


class AutoRenewAnswer(TypedDict):
    """Whether each further period gets the plan's credit."""

    subscription_id: UUID
    tenant_id: str
    auto_renew: bool


@contract.command("billing.set_auto_renew", queue=Queue.billing)
def set_auto_renew(
    session: database.Session,
    *,
    subscription_id: UUID,
    auto_renew: bool,
    as_of: fields.Instant = contract.NOW,
) -> AutoRenewAnswer:
    """Say whether each further period of a subscription gets the plan's credit.

    Runs when a producer or an operator sends it. Invoices are not touched. Switched off, credit
    that was granted ahead for a period that has not begun is taken back; switched on, the period
    that holds `as_of` is due, and those missed in between are not. Twice is harmless: the same
    again changes nothing. If it dies half way nothing has changed.

    Refused with code `subscription.unknown`.

    Args:
        subscription_id: which one.
        auto_renew: whether it renews by itself.
    """
    tenant_id = subscription.get(session, subscription_id).tenant_id
    timezone = subscription.hold_tenant(session, tenant_id) or "UTC"
    # Read again under the lock.
    one = subscription.get(session, subscription_id)
    if one.auto_renew is not auto_renew:
        subscription_change.set_auto_renew(session, subscription_id, auto_renew, now=as_of)
        if auto_renew:
            _resume(session, one, period.zone(timezone), as_of)
        else:
            withdrawing.ahead(session, one, now=as_of)
    return {"subscription_id": subscription_id, "tenant_id": tenant_id, "auto_renew": auto_renew}


def _resume(session: database.Session, one: Subscription, zone: ZoneInfo, now: dt.datetime) -> None:
    progress = allocation_due.claim(session, one.id)
    if progress is None:
        return
    today = one.cycle.containing(period.local_day(now, zone), zone).first
    until = max(progress.allocated_until or today, today)
    allocation_due.move(session, Progress(one.id, until, now))

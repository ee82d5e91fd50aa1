"""What a claimed subscription's credit is decided by, and granting it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from models import database
from models.rules import allocation as rules
from models.rules.allocation import Version
from models.rules.billing import Subscription
from models.store import credit
from models.store.allocation import Allocation
from tasks import granting

CAUSE: Final = "billing.allocate_subscription_credits"


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed subscription, and what decides its credit at `now`.

    `ahead` is how long before it begins a period is due.
    """

    subscription: Subscription
    zone: ZoneInfo
    versions: Sequence[Version]
    ahead: dt.timedelta
    now: dt.datetime

    def terms(self, one: Allocation) -> rules.Terms:
        """The terms by which an allocation was made."""
        return next(v.terms for v in self.versions if v.id == one.plan_credit_id)


def grant(
    session: database.Session, work: Work, one: Allocation, lot: granting.Lot
) -> granting.Done:
    """Grant a lot as part of an allocation, and announce it."""
    (done,) = granting.grant(
        session,
        [lot],
        tenant_id=one.tenant_id,
        cause=credit.Cause(CAUSE, f"{one.subscription_id}:{one.days.first}"),
        details={
            "subscription_id": str(one.subscription_id),
            "plan_key": work.subscription.plan_key,
            "period_start": one.period_start.isoformat(),
            "period_end": one.period_end.isoformat(),
        },
        now=work.now,
    )
    return done


def previous(one: Allocation, others: Sequence[Allocation]) -> Allocation | None:
    """The allocation of the same product whose period ends where this one begins."""
    for other in others:
        if (other.product_key, other.days.after) == (one.product_key, one.days.first):
            return other
    return None

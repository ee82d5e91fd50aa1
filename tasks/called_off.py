"""A subscription that was to take another one's place, and never will."""

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

from models import database
from models.rules.billing import Subscription
from models.store import subscription, subscription_change
from tasks import subscribing, withdrawing


def follower(
    session: database.Session, found: Subscription, zone: ZoneInfo, *, now: dt.datetime
) -> Subscription:
    """Call off the subscription that is to replace one, if it has not begun; return the latter as
    it goes on. Their tenant is locked.

    Raises:
        SubscriptionReplaced: another one is to replace the follower itself.
        SubscriptionOverlaps: the tenant is on the plan again by then.
    """
    following = subscription.find_follower(session, found.id)
    if following is None or following.effective_at <= now:
        return found
    further = subscription.find_follower(session, following.id)
    if further is not None:
        raise subscribing.SubscriptionReplaced(
            f"subscription {following.id} is to replace {found.id}, and {further.id} is to replace "
            "that; take its change back first",
            field="subscription_id",
        )
    version = subscription_change.call_off(session, following.id, now=now)
    gone = replace(following, ended_at=following.effective_at, follows=None, next_invoice_at=None)
    subscribing.announce_set(session, gone, version=version, now=now)
    withdrawing.beyond_end(session, gone, now=now)
    return subscribing.finish(session, found, following.ended_at, zone, now=now)

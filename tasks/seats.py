"""Other seats in place: the subscription stays, and its fees follow the seats of each day."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

from models import database
from models.rules import billing
from models.rules.billing import Seats, Subscription
from models.store import subscription_change
from tasks import subscribing


def change(
    session: database.Session,
    found: Subscription,
    quantity: Decimal,
    at: dt.datetime,
    zone: ZoneInfo,
    *,
    now: dt.datetime,
) -> Subscription:
    """Give a subscription other seats from an instant on, instead of those that were to come; its
    tenant is locked.

    Raises:
        PeriodFinalized: an invoice with a number covers some of the days.
    """
    wanted = Seats(max(at, found.effective_at), quantity)
    subscribing.check_open(session, found, wanted.effective_at, found.ended_at)
    subscription_change.set_seats(session, found.id, wanted, now=now)
    kept = tuple(one for one in found.seats if one.effective_at < wanted.effective_at)
    return _say(session, replace(found, seats=(*kept, wanted)), wanted.effective_at, zone, now=now)


def take_back(
    session: database.Session, found: Subscription, zone: ZoneInfo, *, now: dt.datetime
) -> Subscription:
    """Forget the seats that a subscription was to have, of which there are some; its tenant is
    locked."""
    kept = tuple(one for one in found.seats if one.effective_at <= now)
    first = found.seats[len(kept)].effective_at
    subscription_change.drop_seats(session, found.id, since=first)
    return _say(session, replace(found, seats=kept), first, zone, now=now)


def _say(
    session: database.Session,
    changed: Subscription,
    since: dt.datetime,
    zone: ZoneInfo,
    *,
    now: dt.datetime,
) -> Subscription:
    day = billing.days_between(since, None, zone).first
    changed = subscribing.look_ahead(session, changed, day, zone)
    version = subscription_change.change(session, changed, now=now)
    subscribing.announce_set(session, changed, version=version, now=now)
    return changed

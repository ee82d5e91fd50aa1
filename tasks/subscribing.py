"""Putting a tenant on a plan and ending it: what is checked, looked ahead at and told."""

import datetime as dt
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.rules import billing, period
from models.rules.billing import Days, Subscription
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState
from models.store import invoice, price_version, subscription, subscription_change, zones
from tasks import allocating, withdrawing
from tasks.announce import announce
from webhooks import events


class NoPriceInCurrency(Refusal):
    """The plan has prices, but none in the subscription's currency."""

    code: ClassVar[str] = "subscription.no_price_in_currency"


class EndsBeforeItStarts(Refusal):
    """A subscription must end after it starts."""

    code: ClassVar[str] = "subscription.ends_before_it_starts"


class PeriodFinalized(Refusal):
    """The change would reach into a period whose invoice can not be edited any more."""

    code: ClassVar[str] = "subscription.period_finalized"


def begin(
    session: database.Session,
    wanted: Subscription,
    *,
    details: dict[str, Any],
    zone: ZoneInfo,
    now: dt.datetime,
) -> Subscription:
    """Store a new subscription, say so, and give it the plan's credit; its tenant is locked.

    Returns it with when its first invoice is due.

    Raises:
        NoPriceInCurrency: nothing of the plan would ever be billed.
        SubscriptionOverlaps: the tenant is on the plan already.
        PeriodFinalized: an invoice with a number covers some of it.
    """
    check_priced(session, wanted)
    subscription_change.check_free(session, wanted)
    check_open(session, wanted, wanted.effective_at, wanted.ended_at)
    charged = wanted.charged_days(zone)
    wanted = look_ahead(session, wanted, charged.first if charged else None, zone)
    subscription_change.add(session, wanted, details=details, now=now)
    announce_set(session, wanted, version=1, now=now)
    allocating.begin(session, wanted, now=now)
    return wanted


def look_ahead(
    session: database.Session, one: Subscription, since: dt.date | None, zone: ZoneInfo
) -> Subscription:
    """Return a changed subscription with when its next invoice is due.

    Args:
        since: the first local day on which what is charged ahead may be different, if any.
    """
    if since is not None and price_version.has_ahead(session, one.plan_key, one.currency):
        due_at, first = billing.midnight(since, zone), since
        if one.fees_due_at is not None and one.fees_from is not None:
            due_at, first = min(due_at, one.fees_due_at), min(first, one.fees_from)
        one = replace(one, fees_due_at=due_at, fees_from=first)
    return replace(one, next_invoice_at=billing.due_at(one, zone))


def finish(
    session: database.Session,
    found: Subscription,
    end: dt.datetime | None,
    zone: ZoneInfo,
    *,
    now: dt.datetime,
) -> Subscription:
    """Set the end of a subscription, None for an open one, and say so; its tenant is locked.

    Raises:
        EndsBeforeItStarts: it would end before it starts.
        PeriodFinalized: an invoice with a number covers what would change.
        SubscriptionOverlaps: the tenant is on the plan again before it would end.
    """
    check_ends_after(found.effective_at, end)
    changed, since = replace(found, ended_at=end), None
    subscription_change.check_free(session, changed)
    if end is not None or found.ended_at is not None:
        span = _between(end, found.ended_at)
        check_open(session, found, *span)
        since = period.local_day(span[0], zone)
    changed = look_ahead(session, changed, since, zone)
    version = subscription_change.change(session, changed, now=now)
    announce_set(session, changed, version=version, now=now)
    withdrawing.beyond_end(session, changed, now=now)
    return changed


def _between(
    end: dt.datetime | None, earlier_end: dt.datetime | None
) -> tuple[dt.datetime, dt.datetime | None]:
    """The time that a change of the end adds or takes away; at least one of them is an end."""
    ends = sorted(one for one in (end, earlier_end) if one is not None)
    return ends[0], ends[1] if len(ends) > 1 else None


def check_ends_after(start: dt.datetime, end: dt.datetime | None) -> None:
    """Refuse a subscription that ends before it starts, or at once.

    Raises:
        EndsBeforeItStarts: it does.
    """
    if end is not None and end <= start:
        raise EndsBeforeItStarts(
            f"ended_at {end.isoformat()} must be after effective_at {start.isoformat()}",
            field="ended_at",
        )


def check_priced(session: database.Session, wanted: Subscription) -> None:
    prices = price_version.current_prices(session, wanted.plan_key)
    currencies = sorted({price.currency for price in prices})
    if currencies and wanted.currency not in currencies:
        raise NoPriceInCurrency(
            f"plan {wanted.plan_key!r} has no price in {wanted.currency}, so nothing would ever be "
            f"billed; choose one of {', '.join(currencies)}",
            field="currency",
        )


def check_open(
    session: database.Session, one: Subscription, start: dt.datetime, end: dt.datetime | None
) -> None:
    """Refuse a change between two instants that an invoice with a number was made for."""
    for header in invoice.ending_between(session, [one.tenant_id], start=start):
        touched = _touched(one, start, end, header.zone).overlap(header.days)
        if (
            header.state not in (InvoiceState.draft, InvoiceState.void)
            and header.currency == one.currency
            and touched
            and one.cycle.containing(header.days.first, header.zone) == header.days
        ):
            raise PeriodFinalized(
                f"invoice {header.number} of {_span(header.days)} is {header.state.value} and can "
                f"not be edited; choose an instant from {header.period.end.isoformat()} on",
                field="effective_at",
            )


def _touched(
    one: Subscription, start: dt.datetime, end: dt.datetime | None, zone: ZoneInfo
) -> Days:
    """The local days that are charged for otherwise if something changes between two instants."""
    return replace(one, effective_at=start, ended_at=end).billed_days(zone)


def _span(days: Days) -> str:
    return f"{days.first} to {days.after - dt.timedelta(days=1)}"


def announce_set(
    session: database.Session, one: Subscription, *, version: int, now: dt.datetime
) -> None:
    event = events.SubscriptionSet(
        tenant_id=one.tenant_id,
        subscription_id=one.id,
        plan_key=one.plan_key,
        quantity=one.seats[-1].quantity if one.seats else one.quantity,
        quantity_from=one.seats[-1].effective_at if one.seats else one.effective_at,
        effective_at=one.effective_at,
        ended_at=one.ended_at,
        trial_ends_at=one.trial_ends_at,
    )
    announce(session, event, tenant_id=one.tenant_id, sequence=version, now=now)


class SubscriptionReplaced(Refusal):
    """Another subscription takes this one's place."""

    code: ClassVar[str] = "subscription.replaced"


class When(StrEnum):
    """When a change takes effect."""

    now = "now"
    period_end = "period_end"


class SubscriptionOver(Refusal):
    """A subscription has ended before the change would take effect."""

    code: ClassVar[str] = "subscription.over"


def hold(session: database.Session, subscription_id: UUID) -> tuple[Subscription, ZoneInfo]:
    tenant_id = subscription.get(session, subscription_id).tenant_id
    timezone = subscription.hold_tenant(session, tenant_id) or "UTC"
    # Read again under the lock.
    return subscription.get(session, subscription_id), zones.of_tenant(session, tenant_id, timezone)


def instant_of(found: Subscription, when: When, zone: ZoneInfo, now: dt.datetime) -> dt.datetime:
    if when is When.now:
        return now
    # One that has not begun yet: the end of its first period.
    day = period.local_day(max(now, found.effective_at), zone)
    return billing.midnight(found.cycle.containing(day, zone).after, zone)


def check_not_replaced(session: database.Session, found: Subscription) -> None:
    follower = subscription.find_follower(session, found.id)
    if follower is not None:
        raise SubscriptionReplaced(
            f"subscription {found.id} is replaced by {follower.id} from "
            f"{follower.effective_at.isoformat()}; change that one, or take the change back with "
            "billing.undo_change while it is to come",
            field="subscription_id",
        )

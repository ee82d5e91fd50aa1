"""What an invoice is made of: periods that are due, priced lines, events.

Everything is done for many tenants at a time: a fixed number of statements whatever their number,
and the pricing in between is plain Python. The caller holds the tenants' locks.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import billing, period
from models.rules.billing import Days, Subscription
from models.store import (
    draft_changes,
    drafting,
    meter,
    meter_touch,
    metering,
    price_version,
    subscription,
    subscription_due,
)
from models.store import zones as tenant_zones
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks import (
    adjusting,
    aggregation,
    ahead,
    ahead_due,
    ahead_taker,
    invoice_pricing,
    invoice_target,
    reckoning,
)
from tasks.invoice_events import tell
from tasks.invoice_target import Key, Target
from webhooks import events

MOST_PERIODS: Final = 24
"""Periods of one subscription that are invoiced in one transaction; more wait for the next."""


def invoice_due(
    session: database.Session, timezones: Mapping[str, str], *, now: dt.datetime
) -> list[Drafted]:
    """Make the invoices that are due of tenants, oldest period first, and move their
    subscriptions on.

    Args:
        timezones: of the tenants, by id.
    """
    held = subscription.of_tenants(session, list(timezones))
    zones = tenant_zones.of_tenants(session, timezones)
    due: dict[Key, Target] = {}
    moved: dict[UUID, Subscription] = {}
    for one in held:
        periods = _due_periods(one, zones[one.tenant_id], now)
        for days in periods:
            wanted = invoice_target.in_zone(one.tenant_id, one.currency, zones[one.tenant_id], days)
            due[wanted.key] = wanted
        if periods or (one.next_invoice_at is not None and one.next_invoice_at <= now):
            moved[one.id] = one.billed(periods[-1].after) if periods else one
    looked = _look_ahead(session, list(moved.values()), list(due.values()), zones, now)
    for (tenant_id, currency), day in looked.needed:
        days = Days(day, day + ahead_taker.ONE_DAY)
        wanted = invoice_target.in_zone(
            tenant_id, currency, zones[tenant_id], days, InvoiceKind.advance
        )
        due[wanted.key] = wanted
    drafts = draw_up(session, sorted(due.values(), key=_by_age), held, now=now)
    moved |= looked.subscriptions
    subscription_due.advance(
        session, [subscription_due.moved(one, zones[one.tenant_id]) for one in moved.values()]
    )
    ahead.give_back(session, looked.unused, now=now)
    return drafts


def draw_up(
    session: database.Session,
    targets: Sequence[Target],
    subscriptions: Sequence[Subscription],
    *,
    now: dt.datetime,
) -> list[Drafted]:
    """Store and announce a draft for each target that never had one and has something to charge
    for. A period whose invoice was withdrawn is billed again when somebody asks for it; one whose
    draft had come to nothing, when there is something after all.

    Args:
        subscriptions: all of the targets' tenants.
    """
    there = {
        invoice_target.of(header).key
        for header in invoice_target.existing(session, targets)
        if not header.is_dropped
    }
    missing = [target for target in targets if target.key not in there]
    return make(session, missing, subscriptions, now=now)


def make(
    session: database.Session,
    targets: Sequence[Target],
    subscriptions: Sequence[Subscription],
    *,
    now: dt.datetime,
) -> list[Drafted]:
    """Store and announce a draft for each target that has something to charge for; none of them
    has an invoice that was not withdrawn.

    Args:
        subscriptions: all of the targets' tenants.
    """
    roll_up(session, targets, now=now)
    noticed = adjusting.noticed(session, {target.tenant_id for target in targets})
    wanted = [*targets, *(invoice_target.of(one.header) for one in noticed)]
    versions = invoice_pricing.versions_of(session, subscriptions)
    priced = invoice_pricing.price(session, wanted, subscriptions, versions)
    fees = invoice_pricing.fees(
        session,
        [invoice_target.taker(target) for target in targets],
        subscriptions,
        versions,
    )
    drawn = [
        drafting.draft(
            tenant_id=target.tenant_id,
            currency=target.currency,
            timezone=target.timezone,
            covers=target.period,
            lines=[*lines, *ahead_of_it],
            now=now,
            kind=target.kind,
        )
        for target, lines, ahead_of_it in zip(targets, priced[: len(targets)], fees, strict=True)
        if lines or ahead_of_it
    ]
    adjusted = adjusting.adjust(session, drawn, noticed, priced[len(targets) :])
    drafts = reckoning.reckon(session, adjusted)
    drafting.add(session, drafts, now=now)
    tell(session, events.InvoiceCreated, drafts, now=now)
    return drafts


def roll_up(session: database.Session, targets: Sequence[Target], *, now: dt.datetime) -> None:
    """Count every touched day of the targets' tenants, before anything is read of their usage."""
    if not targets:
        return
    tenant_ids = {target.tenant_id for target in targets}
    # By one definition of each meter, from the days to the quantity.
    meter.hold(session)
    meter_touch.touch_open_of(session, tenant_ids)
    # As a rule the beat has counted a closed period long before: then this is one short query.
    last = max(target.period.end for target in targets)
    behind = metering.tenants_to_roll_up(session, sorted(tenant_ids), before=last)
    if behind:
        aggregation.roll_up_in(session, behind, now=now)


def refresh(
    session: database.Session, headers: Sequence[Header], *, now: dt.datetime
) -> list[Drafted]:
    """Compute drafts anew; store and announce those that changed. All come back, in order."""
    tenant_ids = sorted({header.tenant_id for header in headers})
    held = subscription.of_tenants(session, tenant_ids)
    roll_up(session, [invoice_target.of(header) for header in headers], now=now)
    noticed = adjusting.noticed(session, tenant_ids)
    asked = [*headers, *(one.header for one in noticed)]
    versions = invoice_pricing.versions_of(session, held)
    priced = invoice_pricing.price(
        session, [invoice_target.of(header) for header in asked], held, versions
    )
    fees = invoice_pricing.fees_again(session, headers, held, versions)
    drawn = [
        # A closing invoice has nothing of its own: it is late usage alone.
        drafting.computed(header, [*lines, *ahead_of_it])
        for header, lines, ahead_of_it in zip(headers, priced[: len(headers)], fees, strict=True)
    ]
    adjusted = adjusting.adjust(session, drawn, noticed, priced[len(headers) :])
    computed = reckoning.reckon(session, adjusted)
    changed = draft_changes.among(session, computed)
    rewritten = drafting.rewrite(session, changed, now=now)
    tell(session, events.InvoiceUpdated, rewritten, now=now)
    newest = {one.header.id: one for one in rewritten}
    return [newest.get(one.header.id, one) for one in computed]


def _due_periods(one: Subscription, zone: ZoneInfo, now: dt.datetime) -> list[Days]:
    if one.next_invoice_at is None or one.next_invoice_at > now:
        return []
    periods = islice(billing.unbilled(one, zone), MOST_PERIODS)
    return list(takewhile(lambda days: billing.midnight(days.after, zone) <= now, periods))


def _look_ahead(
    session: database.Session,
    moved: Sequence[Subscription],
    targets: Sequence[Target],
    zones: Mapping[str, ZoneInfo],
    now: dt.datetime,
) -> ahead_due.Looked:
    """Look at what is due ahead of subscriptions, as they are after the invoices being made."""
    due = [one for one in moved if one.fees_due_at is not None and one.fees_due_at <= now]
    if not due:
        return ahead_due.Looked()
    versions = price_version.versions(session, sorted({one.plan_key for one in due}))
    until = {}
    for one in due:
        zone = zones[one.tenant_id]
        over = next(billing.unbilled(one, zone), None)
        # One that is many periods behind is looked at as far as it is invoiced.
        is_behind = over is not None and billing.midnight(over.after, zone) <= now
        until[one.id] = over.first if over and is_behind else period.local_day(now, zone)
    return ahead_due.look(
        session,
        due,
        versions,
        [invoice_target.taker(target) for target in targets],
        zones=zones,
        until=until,
    )


def _by_age(target: Target) -> tuple[dt.date, str, str, dt.date]:
    return (
        target.days.after,
        target.tenant_id,
        target.currency,
        target.days.first,
    )

"""What an invoice is made of: periods that are due, priced lines, events.

Everything is done for many tenants at a time: a fixed number of statements whatever their number,
and the pricing in between is plain Python. The caller holds the tenants' locks.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import billing, period
from models.rules.billing import Days, Subscription
from models.rules.period import Moved
from models.store import (
    draft_changes,
    drafting,
    finalizing,
    invoice,
    invoice_sync,
    issuer,
    late_usage,
    meter,
    metering,
    price_version,
    settlement,
    subscription,
)
from models.store import zones as tenant_zones
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks import adjusting, aggregation, ahead, config, costs, prepaid, reckoning
from tasks.announce import announce_all
from tasks.invoice_events import announcement, tell
from webhooks import events

MOST_PERIODS: Final = 24
"""Periods of one subscription that are invoiced in one transaction; more wait for the next."""

NEARBY: Final = dt.timedelta(days=2)
"""How far the same local day can lie apart in two zones, and a little more."""


Key = tuple[str, str, Days, InvoiceKind]
"""Tenant, currency, local days and kind of an invoice."""


@dataclass(frozen=True, slots=True)
class Target:
    """An invoice to be made: a tenant, a currency, and whole local days of a zone."""

    tenant_id: str
    currency: str
    timezone: str
    days: Days
    kind: InvoiceKind = InvoiceKind.subscription

    @property
    def key(self) -> Key:
        """What there is one invoice for, also after the tenant moved to another zone."""
        return self.tenant_id, self.currency, self.days, self.kind

    @property
    def period(self) -> period.Period:
        """Its days as instants."""
        return self.days.period(period.zone(self.timezone))


def target(
    tenant_id: str,
    currency: str,
    zone: ZoneInfo,
    days: Days,
    kind: InvoiceKind = InvoiceKind.subscription,
) -> Target:
    """Return an invoice to be made, told in the zone in which its period ends."""
    return Target(tenant_id, currency, period.zone_of(days.after, zone).key, days, kind)


def target_of(header: Header) -> Target:
    """Return what an invoice was made for."""
    return Target(header.tenant_id, header.currency, header.timezone, header.days, header.kind)


def taker(target: Target) -> ahead.Taker:
    """Return an invoice to be made as what takes fees that are charged ahead."""
    return ahead.Taker(target.tenant_id, target.currency, target.timezone, target.kind, target.days)


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
            wanted = target(one.tenant_id, one.currency, zones[one.tenant_id], days)
            due[wanted.key] = wanted
        if periods or (one.next_invoice_at is not None and one.next_invoice_at <= now):
            moved[one.id] = one.billed(periods[-1].after) if periods else one
    looked = _look_ahead(session, list(moved.values()), list(due.values()), zones, now)
    for (tenant_id, currency), day in looked.needed:
        days = Days(day, day + ahead.ONE_DAY)
        wanted = target(tenant_id, currency, zones[tenant_id], days, InvoiceKind.advance)
        due[wanted.key] = wanted
    drafts = draw_up(session, sorted(due.values(), key=_by_age), held, now=now)
    moved |= looked.subscriptions
    subscription.advance(
        session, [subscription.moved(one, zones[one.tenant_id]) for one in moved.values()]
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
        target_of(header).key for header in existing(session, targets) if not header.is_dropped
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
    wanted = [*targets, *(target_of(one.header) for one in noticed)]
    versions = _versions(session, subscriptions)
    priced = _price(session, wanted, subscriptions, versions)
    fees = _fees(session, [taker(target) for target in targets], subscriptions, versions)
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


def existing(session: database.Session, targets: Sequence[Target]) -> list[Header]:
    """Return the invoices there are for targets, and maybe neighbours of theirs."""
    if not targets:
        return []
    ends = [target.period.end for target in targets]
    return invoice.ending_between(
        session,
        sorted({target.tenant_id for target in targets}),
        start=min(ends) - NEARBY,
        end=max(ends) + NEARBY,
        kinds=sorted({target.kind for target in targets}),
    )


def roll_up(session: database.Session, targets: Sequence[Target], *, now: dt.datetime) -> None:
    """Count every touched day of the targets' tenants, before anything is read of their usage."""
    if not targets:
        return
    tenant_ids = {target.tenant_id for target in targets}
    # By one definition of each meter, from the days to the quantity.
    meter.hold(session)
    meter.touch_open_of(session, tenant_ids)
    # As a rule the beat has counted a closed period long before: then this is one short query.
    last = max(target.period.end for target in targets)
    behind = metering.tenants_to_roll_up(session, sorted(tenant_ids), before=last)
    if behind:
        aggregation.roll_up_in(session, behind, now=now)


def price(
    session: database.Session,
    targets: Sequence[Target],
    subscriptions: Sequence[Subscription],
) -> list[list[billing.Line]]:
    """Return the lines of each target, in the same order, from usage as it was rolled up."""
    return _price(session, targets, subscriptions, _versions(session, subscriptions))


def _price(
    session: database.Session,
    targets: Sequence[Target],
    subscriptions: Sequence[Subscription],
    versions: costs.Versions,
) -> list[list[billing.Line]]:
    if not targets:
        return []
    of_tenant: dict[tuple[str, str], list[Subscription]] = defaultdict(list)
    for one in subscriptions:
        of_tenant[one.tenant_id, one.currency].append(one)
    moved = tenant_zones.moved(session, {target.tenant_id for target in targets})
    asked = [
        costs.Asked(
            of_tenant[target.tenant_id, target.currency],
            target.days,
            _zone_of(target, moved.get(target.tenant_id)),
        )
        if target.kind is InvoiceKind.subscription
        else None
        for target in targets
    ]
    priced = iter(costs.lines(session, [one for one in asked if one is not None], versions))
    return [[] if one is None else next(priced) for one in asked]


def price_ahead(
    session: database.Session,
    takers: Sequence[ahead.Taker],
    subscriptions: Sequence[Subscription],
) -> list[list[billing.Line]]:
    """Return what invoices charge ahead, in the same order.

    Args:
        subscriptions: all of their tenants.
    """
    return _fees(session, takers, subscriptions, _versions(session, subscriptions))


def refresh(
    session: database.Session, headers: Sequence[Header], *, now: dt.datetime
) -> list[Drafted]:
    """Compute drafts anew; store and announce those that changed. All come back, in order."""
    tenant_ids = sorted({header.tenant_id for header in headers})
    held = subscription.of_tenants(session, tenant_ids)
    roll_up(session, [target_of(header) for header in headers], now=now)
    noticed = adjusting.noticed(session, tenant_ids)
    asked = [*headers, *(one.header for one in noticed)]
    versions = _versions(session, held)
    priced = _price(session, [target_of(header) for header in asked], held, versions)
    fees = _fees_again(session, headers, held, versions)
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


def finalize(
    session: database.Session, headers: Sequence[Header], *, now: dt.datetime
) -> list[Drafted]:
    """Compute drafts a last time, let prepaid credit pay, then number in the given order, freeze
    and announce. What nothing is due of is paid; what has no line left is withdrawn instead, and
    gets no number. All come back, those last."""
    # Before anything is counted: what is noticed from here on, the next invoice looks at.
    known = late_usage.of_tenants(session, {header.tenant_id for header in headers})
    took = adjusting.takers(session, headers) if known else set()
    computed = refresh(session, headers, now=now)
    dropped = _drop(session, [one for one in computed if not one.lines], now=now)
    drafts = [one for one in computed if one.lines]
    settled = prepaid.settle(session, [one.header for one in drafts], now=now)
    numbered = finalizing.finalize(session, settled, issuer=issuer.get(session), now=now)
    final = [
        Drafted(header, one.lines, one.bill) for header, one in zip(numbered, drafts, strict=True)
    ]
    tell(session, events.InvoiceFinalized, final, now=now)
    provider = config.current().provider
    if provider is not None:
        invoice_sync.begin(session, numbered, provider=provider.name, now=now)
    late_usage.forget(session, adjusting.done(known, headers, took))
    closed = settlement.close_settled(session, numbered, now=now)
    if closed:
        final = [replace(one, header=closed.get(one.header.id, one.header)) for one in final]
    paid = [one for one in final if one.header.id in closed]
    tell(session, events.InvoicePaid, paid, now=now)
    return [*final, *dropped]


def _drop(
    session: database.Session, empty: Sequence[Drafted], *, now: dt.datetime
) -> list[Drafted]:
    headers = finalizing.drop(session, [one.header for one in empty], now=now)
    dropped = [replace(one, header=header) for header, one in zip(headers, empty, strict=True)]
    announce_all(session, [announcement(events.InvoiceDropped, one) for one in dropped], now=now)
    return dropped


def _fees_again(
    session: database.Session,
    headers: Sequence[Header],
    held: Sequence[Subscription],
    versions: costs.Versions,
) -> list[list[billing.Line]]:
    """What drafts charge ahead, computed anew: they give up what they hold, and take it again."""
    owners = ahead.owners(held, versions)
    holding = [header.id for header in headers if adjusting.owner(header) in owners]
    holds = invoice.lines(session, holding) if holding else {}
    takers = [ahead.taker_of(header, holds.get(header.id, ())) for header in headers]
    return _fees(session, takers, held, versions)


def _fees(
    session: database.Session,
    takers: Sequence[ahead.Taker],
    held: Sequence[Subscription],
    versions: costs.Versions,
) -> list[list[billing.Line]]:
    moved = tenant_zones.moved(session, {one.tenant_id for one in takers})
    return ahead.lines(session, takers, held, versions, moved=moved)


def _versions(session: database.Session, subscriptions: Sequence[Subscription]) -> costs.Versions:
    """Those of all prices of their plans."""
    return price_version.versions(session, sorted({one.plan_key for one in subscriptions}))


def _zone_of(target: Target, moved: Moved | None) -> ZoneInfo:
    """By what an invoice counts its days: that of its tenant, if it is told in the zone of then.

    Others were made before it was kept where a tenant had been; they go on as they were.
    """
    if moved is not None and period.zone_of(target.days.after, moved).key == target.timezone:
        return moved
    return period.zone(target.timezone)


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
) -> ahead.Looked:
    """Look at what is due ahead of subscriptions, as they are after the invoices being made."""
    due = [one for one in moved if one.fees_due_at is not None and one.fees_due_at <= now]
    if not due:
        return ahead.Looked()
    versions = price_version.versions(session, sorted({one.plan_key for one in due}))
    until = {}
    for one in due:
        zone = zones[one.tenant_id]
        over = next(billing.unbilled(one, zone), None)
        # One that is many periods behind is looked at as far as it is invoiced.
        is_behind = over is not None and billing.midnight(over.after, zone) <= now
        until[one.id] = over.first if over and is_behind else period.local_day(now, zone)
    return ahead.look(
        session,
        due,
        versions,
        [taker(target) for target in targets],
        zones=zones,
        until=until,
    )


def _by_age(target: Target) -> tuple[dt.date, str, str, dt.date]:
    return target.days.after, target.tenant_id, target.currency, target.days.first

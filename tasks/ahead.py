"""Fees that are charged ahead: which invoice has what, and what is given back.

What a subscription owes ahead is compared with what invoices charged for it, whatever their state
and kind; only the difference is charged or given back. So nothing is charged twice, whoever looks,
however often and in whichever order. The caller holds the tenants' locks.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import ahead, billing, period
from models.rules.ahead import Owed, Stretch
from models.rules.billing import Days, Line, PriceVersion, Subscription
from models.rules.period import Moved
from models.store import ahead as store
from models.store import invoice, prepaid
from models.store.ahead import Charged
from models.store.invoice import Header
from tasks import giving_back
from tasks.giving_back import Less

Owner = tuple[str, str]
"""A tenant and a currency."""

Versions = Mapping[tuple[str, str], Sequence[PriceVersion]]
"""Of prices, by plan and currency."""

ONE_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Taker:
    """An invoice that is being computed: it takes what is due until its period is over."""

    tenant_id: str
    currency: str
    timezone: str
    kind: InvoiceKind
    days: Days
    holds: Sequence[Line] = ()

    @property
    def owner(self) -> Owner:
        """Whom it bills in what."""
        return self.tenant_id, self.currency

    @property
    def until(self) -> date:
        """The last local day whose fees it takes: a period's is the first one after it."""
        return self.days.first if self.kind is InvoiceKind.advance else self.days.after

    @property
    def since(self) -> date:
        """The first local day that it looks at."""
        held = (ahead.stretch_of(line).first for line in self.holds if ahead.is_ahead(line))
        return min([self.days.first, *held])


@dataclass(slots=True)
class Looked:
    """What came of looking: invoices that are needed, what is to be given back, and the
    subscriptions as they are to be looked at again."""

    needed: set[tuple[Owner, date]] = field(default_factory=set)
    unused: list[tuple[Charged, int]] = field(default_factory=list)
    subscriptions: dict[UUID, Subscription] = field(default_factory=dict)


def lines(
    session: database.Session,
    takers: Sequence[Taker],
    subscriptions: Iterable[Subscription],
    versions: Versions,
    *,
    moved: Mapping[str, Moved],
) -> list[list[Line]]:
    """Return what invoices charge ahead, in their order. Older ones take first.

    Args:
        subscriptions: all of the takers' tenants.
        versions: of all their plans.
        moved: the zones of those tenants that moved.
    """
    found: list[list[Line]] = [[] for _ in takers]
    charged = _charged(subscriptions, versions)
    if not charged:
        return found
    since = _since(takers)
    held = [one for one in charged if _owner(one) in since]
    first_days = {
        one.id: min(since[_owner(one)], one.fees_from or since[_owner(one)]) for one in held
    }
    known = _Known(session, held, first_days, without={_key(taker) for taker in takers})
    for place in sorted(range(len(takers)), key=lambda place: takers[place].until):
        taker = takers[place]
        told_in = period.zone(taker.timezone)
        zone = moved.get(taker.tenant_id, told_in)
        for one in held:
            if _owner(one) != taker.owner:
                continue
            for owed in known.owed(one, versions, first_days[one.id], taker.until, zone):
                line = ahead.to_charge(owed, known.charged)
                if line is not None and owed.days.first <= taker.until:
                    known.charge(owed.stretch, line)
                    found[place].append(_told_in(told_in, line, owed.zone))
    return found


def owners(subscriptions: Iterable[Subscription], versions: Versions) -> set[Owner]:
    """Return whom something is, was or will be charged ahead."""
    return {_owner(one) for one in _charged(subscriptions, versions)}


def look(
    session: database.Session,
    subscriptions: Sequence[Subscription],
    versions: Versions,
    takers: Sequence[Taker],
    *,
    zones: Mapping[str, ZoneInfo],
    until: Mapping[UUID, date],
) -> Looked:
    """Look at subscriptions of which something may have to be charged ahead, or given back.

    Args:
        subscriptions: those that are due to be looked at.
        takers: the invoices that are being made anyway.
        zones: of the tenants.
        until: for each subscription the local day to look at up to: today, or before that where it
            is behind.
    """
    looked = Looked()
    if not subscriptions:
        return looked
    first_days = {one.id: one.fees_from or date.min for one in subscriptions}
    known = _Known(session, subscriptions, first_days)
    drafts = store.drafts_that_take(session, sorted(zones))
    there = {(one.owner, one.until) for one in [*takers, *map(taker_of, drafts)]}
    for one in subscriptions:
        zone = zones[one.tenant_id]
        today = until[one.id]
        waits = False
        for each in known.owed(one, versions, first_days[one.id], today, zone):
            day = each.days.first
            asks = day <= today and _asks(ahead.to_charge(each, known.charged))
            if asks and (_owner(one), day) not in there:
                found = _free_day(session, one, day, today, zone)
                if found is None:
                    waits = True
                else:
                    looked.needed.add((_owner(one), found))
        looked.unused += _unused(
            one, versions, known, since=first_days[one.id], day=today, zone=zone
        )
        looked.subscriptions[one.id] = _look_again(one, today, zone, waits=waits)
    return looked


def give_back(
    session: database.Session, unused: Sequence[tuple[Charged, int]], *, now: dt.datetime
) -> int:
    """Take back by credit notes what was charged ahead and is not owed; return how many.

    What was paid becomes prepaid credit, which pays the invoices to come, where a product holds
    credit in the currency; or else it is to be paid back.
    """
    of_invoice: dict[UUID, list[tuple[Charged, int]]] = defaultdict(list)
    for one, amount in unused:
        of_invoice[one.header.id].append((one, amount))
    products = prepaid.products(session) if of_invoice else {}
    made = 0
    for parts in of_invoice.values():
        header = parts[0][0].header
        made += giving_back.give_back(
            session,
            header,
            {one.position - 1: Less(amount, Decimal(0)) for one, amount in parts},
            reason="paid ahead, and not used: " + ", ".join(_named(one) for one, _ in parts[:3]),
            refund="credit" if header.currency in products else "payout",
            now=now,
        )
    return made


def taker_of(header: Header, holds: Sequence[Line] = ()) -> Taker:
    """Return an invoice as what takes fees; `holds`: its lines as they are stored."""
    return Taker(
        header.tenant_id, header.currency, header.timezone, header.kind, header.days, holds
    )


class _Known:
    """What was charged ahead for subscriptions from some days on."""

    def __init__(
        self,
        session: database.Session,
        subscriptions: Sequence[Subscription],
        first_days: Mapping[UUID, date],
        without: Iterable[tuple[object, ...]] = (),
    ) -> None:
        left_out = set(without)
        self._begins = {
            one.id: one.cycle.containing(
                # A day less: in another zone it may have begun the day before.
                max(first_days[one.id], one.effective_at.astimezone(dt.UTC).date() - ONE_DAY),
                _UTC,
            ).first
            for one in subscriptions
        }
        found = store.charged(
            session, list(self._begins), since=min(self._begins.values(), default=date.max)
        )
        self.lines = [
            one
            for one in found
            if one.stretch.first >= self._begins[one.line.subscription_id]
            and _key(taker_of(one.header)) not in left_out
        ]
        self.charged: dict[Stretch, int] = defaultdict(int)
        for one in self.lines:
            self.charged[one.stretch] += one.left_minor
        # A plain mapping from here on: what was never charged for is not in it.
        self.charged = dict(self.charged)

    def owed(
        self,
        one: Subscription,
        versions: Versions,
        since: date,
        until: date,
        zone: ZoneInfo,
    ) -> Iterator[Owed]:
        """What is owed ahead for the periods that hold two days and those between them.

        A tenant that moves to another zone owes the same days; if it is not known where it was,
        those of the zone in which a period was charged for first.
        """
        begun = None if isinstance(zone, Moved) else self._begun(one)
        for days in ahead.periods(one, since, until, zone):
            if begun is not None and days.after <= begun:
                continue
            counted_in = zone if isinstance(zone, Moved) else self._zone_of(one, days) or zone
            yield from ahead.owed(one, _of(one, versions), days, counted_in)

    def charge(self, stretch: Stretch, line: Line) -> None:
        """Remember a line that is being charged."""
        self.charged[stretch] = self.charged.get(stretch, 0) + line.amount_minor

    def _begun(self, one: Subscription) -> date | None:
        """The first day it was charged for, if it was: elsewhere that may be another day."""
        firsts = (
            line.stretch.first
            for line in self.lines
            if line.line.subscription_id == one.id
            and line.stretch.first == one.charged_days(line.header.zone).first
        )
        return next(firsts, None)

    def _zone_of(self, one: Subscription, days: Days) -> ZoneInfo | None:
        zones = (
            line.header.zone
            for line in self.lines
            if line.line.subscription_id == one.id and days.first <= line.stretch.first < days.after
        )
        return next(zones, None)


_UTC: Final = ZoneInfo("UTC")


def _unused(
    one: Subscription,
    versions: Versions,
    known: _Known,
    *,
    since: date,
    day: date,
    zone: ZoneInfo,
) -> Iterator[tuple[Charged, int]]:
    """What was charged and, by what there is on a day, is not owed: what is to come may change."""
    now = ahead.known_on(one, day, zone)
    owed = {
        each.stretch: each.line.amount_minor for each in known.owed(now, versions, since, day, zone)
    }
    for stretch, charged in known.charged.items():
        if stretch.subscription_id == one.id and charged > owed.get(stretch, 0):
            yield from _parts(known.lines, stretch, charged - owed.get(stretch, 0))


def _parts(found: Sequence[Charged], stretch: Stretch, over: int) -> Iterator[tuple[Charged, int]]:
    """The lines to take it from, those of the newest invoice first; drafts change by themselves."""
    for one in reversed(found):
        if one.stretch == stretch and one.is_numbered and over > 0:
            part = min(over, one.left_minor)
            if part > 0:
                yield one, part
            over -= part


def _free_day(
    session: database.Session, one: Subscription, day: date, today: date, zone: ZoneInfo
) -> date | None:
    """The day whose invoice takes it: its own, or today if that is numbered; there is one a day."""
    for wanted in dict.fromkeys((day, today)):
        start = billing.midnight(wanted, zone)
        near = invoice.ending_between(
            session,
            [one.tenant_id],
            # Where the tenant moved, it may be told to end up to 26 hours before or after.
            start=start - 2 * ONE_DAY,
            end=start + 4 * ONE_DAY,
            kinds=(InvoiceKind.advance,),
        )
        if not any(
            (header.currency, header.days.first) == (one.currency, wanted)
            for header in near
            if not header.is_dropped
        ):
            return wanted
    return None


def _look_again(one: Subscription, day: date, zone: ZoneInfo, *, waits: bool) -> Subscription:
    """The subscription with when to look at it next: when something is to come, or tomorrow if it
    waits for an invoice."""
    following = ahead.to_come(one, day, zone)
    if waits:
        following.append(day + ONE_DAY)
    if not following:
        return replace(one, fees_due_at=None, fees_from=None)
    first = min(following)
    since = one.fees_from if waits else first
    return replace(one, fees_due_at=billing.midnight(first, zone), fees_from=since)


def _asks(line: Line | None) -> bool:
    return line is not None and line.amount_minor > 0


def _since(takers: Sequence[Taker]) -> dict[Owner, date]:
    since: dict[Owner, date] = {}
    for one in takers:
        if one.kind is not InvoiceKind.closing:
            since[one.owner] = min(one.since, since.get(one.owner, date.max))
    return since


def _key(taker: Taker) -> tuple[object, ...]:
    return taker.tenant_id, taker.currency, taker.kind, taker.days


def _of(one: Subscription, versions: Versions) -> Sequence[PriceVersion]:
    """The versions of a subscription's prices, if some are charged ahead."""
    found = versions.get((one.plan_key, one.currency), ())
    return found if any(version.ahead for version in found) else ()


def _charged(subscriptions: Iterable[Subscription], versions: Versions) -> list[Subscription]:
    """Those of which something is charged ahead by some version of their plan's prices."""
    plans = {plan for plan, found in versions.items() if any(version.ahead for version in found)}
    if not plans:
        return []
    return [one for one in subscriptions if (one.plan_key, one.currency) in plans]


def _owner(one: Subscription) -> Owner:
    return one.tenant_id, one.currency


def _told_in(zone: ZoneInfo, line: Line, before: ZoneInfo) -> Line:
    """A line over the same days, told in the zone of its invoice."""
    if zone.key == before.key:
        return line
    days = billing.days_between(line.period.start, line.period.end, before)
    return replace(line, period=days.period(zone))


def _named(one: Charged) -> str:
    days = billing.days_between(one.line.period.start, one.line.period.end, one.header.zone)
    return f"{one.line.description} of {days.first} to {days.after - ONE_DAY}"

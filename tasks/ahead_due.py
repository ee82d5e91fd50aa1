"""Looking at what is due ahead: which invoices are needed, and what is to be given back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import ahead, billing
from models.rules.ahead import Stretch
from models.rules.billing import Line, Subscription
from models.store import ahead as store
from models.store import invoice
from models.store.ahead import Charged
from tasks import ahead_taker
from tasks.ahead_known import Known
from tasks.ahead_taker import Owner, Taker, Versions, owner_of


@dataclass(slots=True)
class Looked:
    """What came of looking: invoices that are needed, what is to be given back, and the
    subscriptions as they are to be looked at again."""

    needed: set[tuple[Owner, date]] = field(default_factory=set)
    unused: list[tuple[Charged, int]] = field(default_factory=list)
    subscriptions: dict[UUID, Subscription] = field(default_factory=dict)


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
    known = Known(session, subscriptions, first_days)
    drafts = store.drafts_that_take(session, sorted(zones))
    there = {(one.owner, one.until) for one in [*takers, *map(ahead_taker.of, drafts)]}
    for one in subscriptions:
        zone = zones[one.tenant_id]
        today = until[one.id]
        waits = False
        for each in known.owed(one, versions, first_days[one.id], today, zone):
            day = each.stretch.first
            asks = day <= today and _asks(ahead.to_charge(each, known.charged))
            if asks and (owner_of(one), day) not in there:
                found = _free_day(session, one, day, today, zone)
                if found is None:
                    waits = True
                else:
                    looked.needed.add((owner_of(one), found))
        looked.unused += _unused(
            one, versions, known, since=first_days[one.id], day=today, zone=zone
        )
        looked.subscriptions[one.id] = _look_again(one, today, zone, waits=waits)
    return looked


def _unused(
    one: Subscription,
    versions: Versions,
    known: Known,
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
            start=start - 2 * ahead_taker.ONE_DAY,
            end=start + 4 * ahead_taker.ONE_DAY,
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
        following.append(day + ahead_taker.ONE_DAY)
    if not following:
        return replace(one, fees_due_at=None, fees_from=None)
    first = min(following)
    since = one.fees_from if waits else first
    return replace(one, fees_due_at=billing.midnight(first, zone), fees_from=since)


def _asks(line: Line | None) -> bool:
    return line is not None and line.amount_minor > 0

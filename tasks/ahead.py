"""Fees that are charged ahead: which invoice has what, and what is given back.

What a subscription owes ahead is compared with what invoices charged for it, whatever their state
and kind; only the difference is charged or given back. So nothing is charged twice, whoever looks,
however often and in whichever order. The caller holds the tenants' locks.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import ahead, billing, period
from models.rules.billing import Line, Subscription
from models.rules.period import Moved
from models.store import prepaid
from models.store.ahead import Charged
from tasks import ahead_taker, giving_back
from tasks.ahead_known import Known
from tasks.ahead_taker import Owner, Taker, Versions, owner_of
from tasks.giving_back import Less


def lines(
    session: database.Session,
    takers: Sequence[Taker],
    subscriptions: Iterable[Subscription],
    versions: Versions,
    *,
    moved: Mapping[str, Moved],
) -> list[list[Line]]:
    """Return what invoices charge ahead, in their order. Older ones take first; closing ones have
    late usage alone and take nothing.

    Args:
        subscriptions: all of the takers' tenants.
        versions: of all their plans.
        moved: the zones of those tenants that moved.
    """
    found: list[list[Line]] = [[] for _ in takers]
    charged = _charged(subscriptions, versions)
    if not charged:
        return found
    taking = [place for place, one in enumerate(takers) if one.kind is not InvoiceKind.closing]
    since = _since(takers[place] for place in taking)
    held = [one for one in charged if owner_of(one) in since]
    first_days = {
        one.id: min(since[owner_of(one)], one.fees_from or since[owner_of(one)]) for one in held
    }
    known = Known(session, held, first_days, without={ahead_taker.key(taker) for taker in takers})
    for place in sorted(taking, key=lambda place: takers[place].until):
        taker = takers[place]
        told_in = period.zone(taker.timezone)
        zone = moved.get(taker.tenant_id, told_in)
        for one in (one for one in held if owner_of(one) == taker.owner):
            for owed in known.owed(one, versions, first_days[one.id], taker.until, zone):
                line = ahead.to_charge(owed, known.charged)
                if line is not None and owed.stretch.first <= taker.until:
                    known.charge(owed.stretch, line)
                    found[place].append(_told_in(told_in, line, owed.zone))
    return found


def owners(subscriptions: Iterable[Subscription], versions: Versions) -> set[Owner]:
    """Return whom something is, was or will be charged ahead."""
    return {owner_of(one) for one in _charged(subscriptions, versions)}


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


def _since(takers: Iterable[Taker]) -> dict[Owner, date]:
    since: dict[Owner, date] = {}
    for one in takers:
        since[one.owner] = min(one.since, since.get(one.owner, date.max))
    return since


def _charged(subscriptions: Iterable[Subscription], versions: Versions) -> list[Subscription]:
    """Those of which something is charged ahead by some version of their plan's prices."""
    plans = {plan for plan, found in versions.items() if any(version.ahead for version in found)}
    if not plans:
        return []
    return [one for one in subscriptions if (one.plan_key, one.currency) in plans]


def _told_in(zone: ZoneInfo, line: Line, before: ZoneInfo) -> Line:
    """A line over the same days, told in the zone of its invoice."""
    if zone.key == before.key or billing.is_by_second(line):
        return line
    days = billing.days_between(line.period.start, line.period.end, before)
    return replace(line, period=days.period(zone))


def _named(one: Charged) -> str:
    covers, zone = one.line.period, one.header.zone
    if billing.is_by_second(one.line):
        start, end = (at.astimezone(zone) for at in (covers.start, covers.end))
        return f"{one.line.description} of {start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}"
    days = billing.days_between(covers.start, covers.end, zone)
    return f"{one.line.description} of {days.first} to {days.after - ahead_taker.ONE_DAY}"

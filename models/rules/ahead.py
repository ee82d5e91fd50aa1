"""Fees that are charged ahead: what is owed, less what was charged, up or down.

What is owed for a period follows from what is known now: how long the subscription lasts, how many
seats it has. So a change is charged or given back by its difference, and what comes to the same is
left alone. A period is charged for in stretches: the seats there are when it begins, and those that
are added from a later day on (or second, where seconds count), each to its end. Seats that go
lessen what is owed for the last ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from models.rules import billing, money, period, pricing
from models.rules.billing import Charge, Days, Line, PriceVersion, Span, Subscription
from models.rules.decimals import plain
from models.rules.seconds import Seconds


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """What is charged for once: a version of a price, up to so many seats, from a local day on; or
    from an instant `at` on that day, where seconds count and it is not the first one."""

    subscription_id: UUID
    price_id: UUID
    first: date
    seats: Decimal
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Owed:
    """A stretch, its part of a period as it is known now, and its line, which is told in `zone`."""

    stretch: Stretch
    part: Span
    line: Line
    zone: ZoneInfo


def is_ahead(line: Line) -> bool:
    """Tell whether a line was charged ahead."""
    return "ahead_from" in line.details


def stretch_of(line: Line) -> Stretch:
    """Return which stretch a line that was charged ahead is for."""
    first, seats = line.details["ahead_from"], line.details["seats"]
    at = line.details.get("ahead_at")
    return Stretch(
        line.subscription_id,
        line.price_id,
        date.fromisoformat(first),
        Decimal(seats),
        None if at is None else datetime.fromisoformat(at),
    )


def periods(subscription: Subscription, since: date, until: date, zone: ZoneInfo) -> Iterator[Days]:
    """The billing periods from the one that holds `since` up to the one that holds `until`, of
    those that the subscription is charged for in part at least."""
    charged = subscription.charged_days(zone)
    # The whole period: the subscription may have ended on its days before `since`.
    day = max(subscription.cycle.containing(since, zone).first, charged.first)
    while day <= until and day < charged.after:
        days = subscription.cycle.containing(day, zone)
        yield days
        day = days.after


def owed(
    subscription: Subscription, versions: Sequence[PriceVersion], days: Days, zone: ZoneInfo
) -> list[Owed]:
    """What is charged ahead for a billing period: setup fees first, then fees by price key.

    Args:
        versions: of the subscription's plan and currency.
        days: one of its billing periods.
    """
    found = []
    ahead = billing.charged_ahead(subscription, versions, days, zone)
    for _, (version, part) in sorted(ahead.items(), key=_order):
        charge = billing.charge_for(subscription, version, part, days, zone)
        if charge is None:
            continue
        if charge.version.kind == billing.FIXED and subscription.seats:
            found += _by_seats(charge)
        else:
            found.append(_owed(charge))
    return found


def known_on(subscription: Subscription, day: date, zone: ZoneInfo) -> Subscription:
    """Return a subscription without what is still to come after a local day: its end, other
    seats."""
    days = subscription.days(zone)
    return replace(
        subscription,
        ended_at=None if days.after > day else subscription.ended_at,
        seats=tuple(
            one for one in subscription.seats if period.local_day(one.effective_at, zone) <= day
        ),
    )


def to_come(subscription: Subscription, day: date, zone: ZoneInfo) -> list[date]:
    """Return the local days after one on which it ends, or has other seats."""
    days = [period.local_day(one.effective_at, zone) for one in subscription.seats]
    if subscription.ended_at is not None:
        days.append(subscription.days(zone).after)
    return [one for one in days if one > day]


def _order(item: tuple[str, tuple[PriceVersion, Span]]) -> tuple[bool, str]:
    key, (version, _) = item
    return version.kind != billing.SETUP, key


@dataclass(slots=True)
class _Layer:
    """Seats above `below` up to `top`, since they came; `now` is up to where they are left."""

    charge: Charge
    below: Decimal
    top: Decimal
    now: Decimal
    amount: Fraction


def _by_seats(charge: Charge) -> list[Owed]:
    runs = charge.subscription.runs(charge.part, charge.zone)
    if len(runs) == 1:
        return [_owed(replace(charge, subscription=runs[0][1]))]
    layers: list[_Layer] = []
    seats = Decimal(0)
    for part, one in runs:
        rest = _from(charge, part.first, one)
        if one.quantity > seats:
            cost = _fee(rest, one.quantity) - _fee(rest, seats)
            layers.append(_Layer(rest, seats, one.quantity, one.quantity, cost))
        for layer in layers:
            left = max(one.quantity, layer.below)
            if left < layer.now:
                layer.amount -= _fee(rest, layer.now) - _fee(rest, left)
                layer.now = left
        seats = one.quantity
    return [_of_layer(layer) for layer in layers]


def _from(charge: Charge, first: date, subscription: Subscription) -> Charge:
    part = billing.cut(charge.part, first, charge.part.after)
    return replace(charge, subscription=subscription, part=part, period=part.period(charge.shown))


def _fee(charge: Charge, seats: Decimal) -> Fraction:
    if not seats:
        return Fraction(0)
    currency = charge.subscription.currency
    return pricing.fee(charge.version.price, seats, currency, share=charge.share).amount


def _of_layer(layer: _Layer) -> Owed:
    found = _owed(layer.charge)
    if not layer.below and layer.now == layer.top:
        return found
    scale: int = 10 ** money.minor_unit(layer.charge.subscription.currency)
    seats = layer.top - layer.below
    more = f": {plain(seats)} more seat{'s' if seats != 1 else ''}" if layer.below else ""
    line = replace(
        found.line,
        description=found.line.description + more,
        quantity=seats,
        unit_amount=None,
        amount_minor=money.round_half_up(layer.amount * scale),
        details={key: value for key, value in found.line.details.items() if key != "steps"},
    )
    return replace(found, line=line)


def _owed(charge: Charge) -> Owed:
    line = billing.line(charge, pricing.NOTHING)
    seats = charge.subscription.quantity if line.kind == billing.FIXED else Decimal(1)
    first = charge.part.first_day(charge.zone)
    at = _instant(charge.part, first, charge.zone)
    stretch = Stretch(charge.subscription.id, charge.version.id, first, seats, at)
    named = {"ahead_from": first.isoformat(), "seats": plain(seats)}
    if at is not None:
        named["ahead_at"] = at.isoformat()
    return Owed(
        stretch, charge.part, replace(line, details={**line.details, **named}), charge.shown
    )


def _instant(part: Span, first: date, zone: ZoneInfo) -> datetime | None:
    """When it begins, unless that is with its first day: that is so wherever its tenant is."""
    if isinstance(part, Days) or part.first == billing.midnight(first, zone):
        return None
    return part.first


def to_charge(one: Owed, charged: Mapping[Stretch, int]) -> Line | None:
    """Return the line that makes what was charged for a stretch come to what is owed, or more.

    Args:
        charged: what was charged for stretches, less what was given back, in minor units.
    """
    if one.stretch not in charged:
        return one.line
    before = charged[one.stretch]
    if one.line.amount_minor <= before:
        return None
    return _rest(one, before)


def _rest(one: Owed, before: int) -> Line:
    """The line for the days, or seconds, that were not charged for: they had been given back."""
    whole = one.line.amount_minor
    paid = min(round(len(one.part) * before / whole), len(one.part) - 1) if before > 0 else 0
    left = billing.cut(one.part, _later(one.part, paid), one.part.after)
    details: dict[str, Any] = {
        **{key: value for key, value in one.line.details.items() if key != "steps"},
        billing.units_of(left): len(left),
        "owed_minor": whole,
        "charged_minor": before,
    }
    return replace(
        one.line,
        unit_amount=None,
        amount_minor=whole - before,
        period=left.period(one.zone),
        details=details,
    )


def _later(part: Span, count: int) -> date:
    """The first day after so many of them, or the first second."""
    if isinstance(part, Seconds):
        return part.first + timedelta(seconds=count)
    return part.first + timedelta(days=count)

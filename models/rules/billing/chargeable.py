"""What is charged for a period: which versions of which prices, for which part of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from models.rules import period
from models.rules.billing.charge import Charge
from models.rules.billing.price_version import COMMITMENT, FIXED, SETUP, USAGE, PriceVersion
from models.rules.billing.spans import Days, Span, between, both, cut, in_units, unit_of
from models.rules.billing.subscription import Subscription
from models.rules.proration import Proration


def charges(
    subscriptions: Sequence[Subscription],
    versions: Mapping[tuple[str, str], Sequence[PriceVersion]],
    *,
    days: Days,
    zone: ZoneInfo,
) -> list[Charge]:
    """What an invoice for `days` charges for: fixed fees first, then usage, each by plan and key.

    What is charged ahead is left out.

    Args:
        subscriptions: of one tenant in one currency; those with another rhythm are left out.
        versions: by plan and currency.
        days: a billing period, whole.
        zone: the tenant's.
    """
    found = [
        charge
        for subscription in subscriptions
        if subscription.is_billed_for(days, zone)
        for version, part in _in_arrears(
            subscription,
            versions.get((subscription.plan_key, subscription.currency), ()),
            days,
            zone,
        )
        if (charge := _charge(subscription, version, part, days, zone)) is not None
    ]
    return sorted((one for charge in found for one in _by_seats(charge)), key=_order)


def _by_seats(charge: Charge) -> Iterator[Charge]:
    """A fee for as long as the seats stayed the same; anything else does not depend on them."""
    if charge.version.kind != FIXED or not charge.subscription.seats:
        yield charge
        return
    for part, subscription in charge.subscription.runs(charge.part, charge.zone):
        if not part.is_over_before_it_begins(charge.zone):
            yield replace(
                charge, subscription=subscription, part=part, period=part.period(charge.shown)
            )


def charged_ahead(
    subscription: Subscription,
    versions: Sequence[PriceVersion],
    days: Days,
    zone: ZoneInfo,
) -> dict[str, tuple[PriceVersion, Span]]:
    """Return what of a period is charged ahead: by price key, the version and its part.

    It is the version in force when the subscription's part of the period begins, and it is for all
    of that part, whatever the price is afterwards. A price that is charged ahead only from a later
    day (or second) of the period on, is from that one on.

    Args:
        versions: of the subscription's plan and currency.
        days: one of its billing periods.
    """
    found: dict[str, tuple[PriceVersion, Span]] = {}
    if not any(version.ahead for version in versions):
        return found
    for version in sorted(
        versions, key=lambda one: (one.effective_at is not None, one.effective_at)
    ):
        if not version.ahead or version.price_key in found:
            continue
        part = _part(subscription, version, days, zone)
        if not part:
            continue
        begins_at = max(part.starts_at(zone), subscription.effective_at)
        if _is_in_force(version, begins_at):
            found[version.price_key] = version, part
            continue
        first = between(version.effective_at, None, zone, unit_of(part)).first
        if part.first <= first < part.after and not _is_over(version, begins_at):
            found[version.price_key] = version, cut(part, first, part.after)
    return found


_BY_SECOND: Final = frozenset({FIXED, COMMITMENT})
"""Kinds that are counted in seconds where their plan is. Usage is added up by days."""


def _by(subscription: Subscription, version: PriceVersion) -> Proration:
    return subscription.proration if version.kind in _BY_SECOND else Proration.day


def _part(subscription: Subscription, version: PriceVersion, days: Days, zone: ZoneInfo) -> Span:
    """What of a period a subscription is charged for, as far as a kind of price looks at it."""
    by = _by(subscription, version)
    if version.kind == SETUP:
        return subscription.charged_days(zone).overlap(days)
    return both(subscription.charged(zone, by), in_units(by, days, zone))


def _is_in_force(version: PriceVersion, at: datetime) -> bool:
    begun = version.effective_at is None or version.effective_at <= at
    return begun and not _is_over(version, at)


def _is_over(version: PriceVersion, at: datetime) -> bool:
    return version.ended_at is not None and version.ended_at <= at


def _in_arrears(
    subscription: Subscription, versions: Sequence[PriceVersion], days: Days, zone: ZoneInfo
) -> Iterator[tuple[PriceVersion, Span]]:
    """The versions that are charged when the period is over, and for which part of it."""
    ahead = charged_ahead(subscription, versions, days, zone)
    parts: dict[str, Span] = {}
    for version in versions:
        if version.ahead:
            continue
        by = _by(subscription, version)
        if version.kind not in parts:
            parts[version.kind] = _part(subscription, version, days, zone)
        in_force = between(version.effective_at, version.ended_at, zone, by)
        if version.price_key in ahead:
            begins_at = ahead[version.price_key][1].starts_at(zone)
            in_force = both(in_force, between(None, begins_at, zone, by))
        yield version, both(parts[version.kind], in_force)


def charge_for(
    subscription: Subscription, version: PriceVersion, in_force: Span, days: Days, zone: ZoneInfo
) -> Charge | None:
    """Return what a version that is in force on some days charges for of a period, if anything."""
    part = both(_part(subscription, version, days, zone), in_force)
    return _charge(subscription, version, part, days, zone)


def _charge(
    subscription: Subscription, version: PriceVersion, part: Span, days: Days, zone: ZoneInfo
) -> Charge | None:
    if version.kind == SETUP:
        part = both(_first_day(subscription, zone), part)
    if part.is_over_before_it_begins(zone):
        return None
    shown = period.zone_of(days.after, zone)
    return Charge(subscription, version, part, days, part.period(shown), zone)


def _first_day(subscription: Subscription, zone: ZoneInfo) -> Days:
    """The day on which a subscription is first charged for, if it owes setup fees; or none."""
    first = subscription.charged_days(zone).first
    return Days(first, first + timedelta(days=1) if subscription.owes_setup else first)


_RANKS: Final = (SETUP, FIXED, USAGE, COMMITMENT)


def _order(charge: Charge) -> tuple[Any, ...]:
    version = charge.version
    return (
        _RANKS.index(version.kind),
        version.plan_key,
        version.price_key,
        charge.part,
        charge.subscription.id,
    )

"""What invoices cost, many at a time: their charges, what was used, the lines these come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.rules import ahead, billing
from models.rules.billing import Charge, Days, Line, PriceVersion, Subscription
from models.rules.charging import Alike, Charging
from models.rules.period import Moved
from models.store import metering_alike, rating
from models.store.breakdown import Want
from models.store.metering_alike import Windows

Versions = Mapping[tuple[str, str], Sequence[PriceVersion]]
"""Of prices, by plan and currency."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Local days of a zone that a tenant is to be charged for in a currency, by what it is
    subscribed to."""

    subscriptions: Sequence[Subscription]
    days: Days
    zone: ZoneInfo


@dataclass(slots=True)
class _Group:
    """Invoices that charge for the same: their places, subscriptions and tenants."""

    alike: Alike
    places: list[int] = field(default_factory=list)
    subscription_ids: list[UUID] = field(default_factory=list)
    tenant_ids: list[str] = field(default_factory=list)

    def add(self, place: int, one: Subscription) -> None:
        """Take one more."""
        self.places.append(place)
        self.subscription_ids.append(one.id)
        self.tenant_ids.append(one.tenant_id)

    def windows(self) -> list[Windows]:
        """What was used of each charge's metric is asked for."""
        return [
            Windows(self.tenant_ids, charge.version.metric or "", charge.period)
            for charge in self.alike.charges
        ]


def lines(
    session: database.Session, asked: Sequence[Asked], versions: Versions
) -> list[list[Line]]:
    """Return the lines of invoices, in their order, from usage as it was rolled up."""
    charging = Charging(versions)
    groups: dict[int, _Group] = {}
    charged: dict[int, list[Charge]] = {}
    for place, one in enumerate(asked):
        found = charging.alike(one.subscriptions, days=one.days, zone=one.zone)
        # Of somebody who moved, days are counted by other zones than the one they are told in.
        if found is not None and found[1].plain and not isinstance(one.zone, Moved):
            subscription, alike = found
            groups.setdefault(id(alike), _Group(alike)).add(place, subscription)
        else:
            charged[place] = charging.charges(one.subscriptions, days=one.days, zone=one.zone)
    priced = _priced_alike(session, list(groups.values())) | _priced(session, charged, versions)
    return [priced[place] for place in range(len(asked))]


def _priced_alike(session: database.Session, groups: Sequence[_Group]) -> dict[int, list[Line]]:
    if not groups:
        return {}
    windows = [one for group in groups for one in group.windows()]
    used = iter(metering_alike.quantities(session, windows))
    priced: dict[int, list[Line]] = {}
    for group in groups:
        quantities = [next(used) for _ in group.alike.charges]
        lines = group.alike.lines(group.subscription_ids, quantities)
        priced |= zip(group.places, lines, strict=True)
    return priced


def _priced(
    session: database.Session, charged: Mapping[int, Sequence[Charge]], versions: Versions
) -> dict[int, list[Line]]:
    """What each comes to that was looked at by itself."""
    if not charged:
        return {}
    metered = [
        charge
        for found in charged.values()
        for charge in found
        if charge.version.metric is not None
    ]
    used = iter(rating.usages(session, [_want(charge) for charge in metered]))
    return {
        place: billing.lines(found, used, _charged_before(found, versions))
        for place, found in charged.items()
    }


def _charged_before(found: Sequence[Charge], versions: Versions) -> list[Line]:
    """What was charged ahead for the periods of commitments, once each."""
    committed = {
        (charge.subscription.id, charge.whole): charge
        for charge in found
        if charge.version.kind == billing.COMMITMENT
    }
    return [
        owed.line
        for charge in committed.values()
        for owed in ahead.owed(
            charge.subscription,
            versions[charge.version.plan_key, charge.version.currency],
            charge.whole,
            charge.zone,
        )
    ]


def _want(charge: Charge) -> Want:
    return Want(
        tenant_id=charge.subscription.tenant_id,
        metric=charge.version.metric or "",
        price=charge.version.price,
        days=charge.days,
        whole=charge.whole,
        zone=charge.zone,
    )

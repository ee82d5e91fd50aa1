"""What a subscription owes for a billing period, line by line.

As a rule everything is counted in local days: a period, a subscription and a version of a price are
each a run of days, and a line covers the days that all three share. The day on which something
changes belongs to what comes after the change. Fees and commitments of a plan that is prorated by
the second are counted in seconds, in the same way; usage is not: it is the days that are counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from models.rules import calendar_periods, money, period, pricing, seconds
from models.rules.period import Anchor, Interval, Period
from models.rules.proration import Proration
from models.rules.seconds import Seconds

FIXED: Final = "fixed"
USAGE: Final = "usage"
SETUP: Final = "setup"
COMMITMENT: Final = "commitment"
ADJUSTMENT: Final = "adjustment"


@dataclass(frozen=True, slots=True, order=True)
class Days:
    """Local days from `first` up to `after`, which is not one of them; none if first >= after."""

    first: date
    after: date

    def __len__(self) -> int:
        return max(0, (self.after - self.first).days)

    def overlap(self, other: "Days") -> "Days":
        """The days in both, possibly none."""
        return Days(max(self.first, other.first), min(self.after, other.after))

    def period(self, zone: ZoneInfo) -> Period:
        """The same as instants. Raises period.EmptyPeriod for no time."""
        return _instants(self, zone)

    def starts_at(self, zone: ZoneInfo) -> datetime:
        """The first instant."""
        return midnight(self.first, zone)

    def is_over_before_it_begins(self, zone: ZoneInfo) -> bool:
        """Whether there is no time in it: its tenant may have crossed the date line."""
        return not self or midnight(self.first, zone) == midnight(self.after, zone)

    def first_day(self, zone: ZoneInfo) -> date:  # noqa: ARG002 (seconds are told by their zone)
        """The day that it begins on, wherever."""
        return self.first

    def day_after(self, zone: ZoneInfo) -> date:  # noqa: ARG002 (seconds are told by their zone)
        """The day that follows the last one, wherever."""
        return self.after


Span = Days | Seconds
"""What a fee is shared out by."""


@lru_cache(maxsize=8192)
def _instants(days: Days, zone: ZoneInfo) -> Period:
    return Period(midnight(days.first, zone), midnight(days.after, zone))


@lru_cache(maxsize=8192)
def days_between(start: datetime | None, end: datetime | None, zone: ZoneInfo) -> Days:
    """The days from the one that holds `start` up to the one that holds `end`; None is unbounded.

    So a subscription that ends at noon is not charged for that day: what follows it is.
    """
    return Days(
        date.min if start is None else _local_day(start, zone),
        date.max if end is None else _local_day(end, zone),
    )


def between(start: datetime | None, end: datetime | None, zone: ZoneInfo, by: Proration) -> Span:
    """The days, or the seconds, from the one that holds `start` up to the one that holds `end`."""
    return seconds.between(start, end) if by is Proration.second else days_between(start, end, zone)


def cut(part: Span, first: date, after: date) -> Span:
    """Return what is from a day, or a second, up to another one; they are of the part's kind."""
    if isinstance(part, Days):
        return Days(first, after)
    return Seconds(cast("datetime", first), cast("datetime", after))


@lru_cache(maxsize=8192)
def _local_day(at: datetime, zone: ZoneInfo) -> date:
    return period.local_day(at, zone)


# What follows is remembered: a billing run asks for the same few days of the same few zones for
# thousands of tenants.
@lru_cache(maxsize=8192)
def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC."""
    return period.local_midnight(day, zone)


@dataclass(frozen=True, slots=True)
class Cycle:
    """The rhythm in which a subscription is billed."""

    interval: Interval
    anchor: Anchor
    anchored_on: date

    def containing(self, day: date, zone: ZoneInfo) -> Days:
        """The billing period that holds a local day."""
        anchored_on = self.anchored_on if self.anchor is Anchor.anniversary else date.min
        return _billing_period(day, self.interval, self.anchor, anchored_on, zone)


@lru_cache(maxsize=8192)
def _billing_period(
    day: date, interval: Interval, anchor: Anchor, anchored_on: date, zone: ZoneInfo
) -> Days:
    # Dates alone decide: where somebody moved, a day may have no time.
    zone = period.zone_of(date.max, zone)
    found = calendar_periods.containing(
        midnight(day, zone), interval=interval, anchor=anchor, anchored_on=anchored_on, zone=zone
    )
    return days_between(found.start, found.end, zone)


@dataclass(frozen=True, slots=True, order=True)
class Seats:
    """How many seats a subscription has from an instant on; the local day of it counts."""

    effective_at: datetime
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Subscription:
    """A tenant on a plan, as billing sees it.

    `quantity` is the seats it began with, `seats` what they were changed to since, oldest first.

    `billed_until` is the first local day that no invoice was made for, None before the first one.
    It is a day and not an instant so that a tenant who moves to another zone goes on from the same
    date: no month is billed twice and none is left out. `next_invoice_at` is when to look, as it
    was stored. `auto_renew`: each further period gets the plan's credit. Until `trial_ends_at`
    nothing is charged for; the local day of it is. `follows` is the one it replaced;
    `owes_setup`: nothing was charged for before, in its place. `fees_due_at`: when to look at what
    is charged ahead, from the local day `fees_from` on.
    """

    id: UUID
    tenant_id: str
    plan_key: str
    currency: str
    quantity: Decimal
    effective_at: datetime
    ended_at: datetime | None
    cycle: Cycle
    billed_until: date | None = None
    next_invoice_at: datetime | None = None
    auto_renew: bool = True
    trial_ends_at: datetime | None = None
    follows: UUID | None = None
    owes_setup: bool = True
    fees_due_at: datetime | None = None
    fees_from: date | None = None
    seats: tuple[Seats, ...] = ()
    proration: Proration = Proration.day

    def billed(self, until: date) -> "Subscription":
        """Return it as it is when invoices were made up to a local day."""
        # Field by field, in half the time: a run moves on thousands.
        return Subscription(
            self.id, self.tenant_id, self.plan_key, self.currency, self.quantity,
            self.effective_at, self.ended_at, self.cycle, until, self.next_invoice_at,
            self.auto_renew, self.trial_ends_at, self.follows, self.owes_setup,
            self.fees_due_at, self.fees_from, self.seats, self.proration,
        )  # fmt: skip

    def quantity_at(self, at: datetime) -> Decimal:
        """How many seats it has at an instant."""
        begun = [one.quantity for one in self.seats if one.effective_at <= at]
        return begun[-1] if begun else self.quantity

    def runs(self, part: Span, zone: ZoneInfo) -> list[tuple[Span, "Subscription"]]:
        """Runs of days, or of seconds, with as many seats, and the subscription as it is then."""
        by = _unit(part)
        firsts: dict[date, Subscription] = {part.first: replace(self, seats=())}
        for one in self.seats:
            first = max(between(one.effective_at, None, zone, by).first, part.first)
            if first < part.after:
                firsts[first] = replace(self, quantity=one.quantity, seats=())
        following = [*list(firsts)[1:], part.after]
        return [
            (cut(part, first, after), one)
            for (first, one), after in zip(firsts.items(), following, strict=True)
        ]

    def days(self, zone: ZoneInfo) -> Days:
        """The local days it is in force on; that of its end is not one of them."""
        return days_between(self.effective_at, self.ended_at, zone)

    def billed_days(self, zone: ZoneInfo) -> Days:
        """The local days that its invoices are for: where seconds count, also that of its end."""
        if self.proration is Proration.day:
            return self.days(zone)
        return _touched(seconds.between(self.effective_at, self.ended_at), zone)

    def charged(self, zone: ZoneInfo, by: Proration) -> Span:
        """The days, or the seconds, it is charged for: those after its trial. Possibly none."""
        found = between(self.effective_at, self.ended_at, zone, by)
        if self.trial_ends_at is None:
            return found
        first = max(found.first, between(self.trial_ends_at, None, zone, by).first)
        return cut(found, first, found.after)

    def charged_days(self, zone: ZoneInfo) -> Days:
        """The local days on which it is charged for something. Possibly none."""
        return _touched(self.charged(zone, self.proration), zone)

    def is_billed_for(self, days: Days, zone: ZoneInfo) -> bool:
        """Whether `days` is one of its billing periods and invoices are for some of them."""
        shared = self.billed_days(zone).overlap(days)
        return len(shared) > 0 and self.cycle.containing(days.first, zone) == days


def _touched(part: Span, zone: ZoneInfo) -> Days:
    """The local days that it has time on."""
    if isinstance(part, Days):
        return part
    first = part.first_day(zone)
    return Days(first, part.day_after(zone) if part else first)


def _unit(part: Span) -> Proration:
    return Proration.second if isinstance(part, Seconds) else Proration.day


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """A price of a plan while its terms stayed the same; `metric` is None for a fixed fee.

    `ahead`: charged when a period begins, and not when it is over.
    """

    id: UUID
    plan_key: str
    price_key: str
    currency: str
    metric: str | None
    price: pricing.Price
    description: str | None
    effective_at: datetime | None
    ended_at: datetime | None
    kind: str = FIXED
    ahead: bool = False


def replacement(
    found: Subscription, wanted: Subscription, at: datetime, zone: ZoneInfo
) -> Subscription:
    """Return a new subscription as the one that takes the place of `found` at an instant.

    Its periods go on as they were if the rhythm is the same; a trial goes on; a setup fee is owed
    only if `found` was charged for on no day.
    """
    before, cycle = found.cycle, wanted.cycle
    day = _local_day(at, zone)
    is_same = (before.interval, before.anchor) == (cycle.interval, cycle.anchor)
    trial = found.trial_ends_at
    return replace(
        wanted,
        effective_at=at,
        ended_at=found.ended_at,
        cycle=replace(cycle, anchored_on=before.anchored_on if is_same else day),
        trial_ends_at=trial if trial is not None and trial > at else None,
        follows=found.id,
        owes_setup=found.owes_setup and not replace(found, ended_at=at).charged_days(zone),
    )


def unbilled(subscription: Subscription, zone: ZoneInfo) -> Iterator[Days]:
    """The billing periods without an invoice, in order; they end when the subscription does."""
    in_force = subscription.billed_days(zone)
    day = max(subscription.billed_until or date.min, in_force.first)
    while day < in_force.after:
        days = subscription.cycle.containing(day, zone)
        yield days
        day = days.after


def due_at(subscription: Subscription, zone: ZoneInfo) -> datetime | None:
    """When its next invoice is due, None if never: at the end of the first period without one, or
    when something may be charged ahead."""
    following = next(unbilled(subscription, zone), None)
    over_at = None if following is None else midnight(following.after, zone)
    return min((at for at in (over_at, subscription.fees_due_at) if at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Charge:
    """A line to be: one version of a price for one subscription, over the `part` that both share of
    a `whole` period.

    `plain`: its line, where that is a quantity times an amount; None where it was not worked out.
    """

    subscription: Subscription
    version: PriceVersion
    part: Span
    whole: Days
    period: Period
    zone: ZoneInfo
    plain: "Plain | None" = None

    def of(self, subscription: Subscription) -> "Charge":
        """Return the same for another subscription."""
        return Charge(
            subscription, self.version, self.part, self.whole, self.period, self.zone, self.plain
        )

    @property
    def days(self) -> Days:
        """The local days that it has time on."""
        return _touched(self.part, self.zone)

    @property
    def shown(self) -> ZoneInfo:
        """The zone that the period is told in: the one in which it ends."""
        return period.zone_of(self.whole.after, self.zone)

    @property
    def units_of_period(self) -> int:
        """How many days, or seconds, the period has."""
        return len(_in(_unit(self.part), self.whole, self.zone))

    @property
    def share(self) -> Fraction:
        """Its days, or its seconds, as a share of the period's."""
        if self.part == self.whole:
            return pricing.WHOLE
        return Fraction(len(self.part), self.units_of_period)


def _in(by: Proration, days: Days, zone: ZoneInfo) -> Span:
    """The same days, or the seconds from the beginning of the first to that of the one after."""
    if by is Proration.day:
        return days
    return seconds.between(midnight(days.first, zone), midnight(days.after, zone))


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
        first = between(version.effective_at, None, zone, _unit(part)).first
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
    return _both(subscription.charged(zone, by), _in(by, days, zone))


def _both(one: Span, other: Span) -> Span:
    """What both share, which are both of days, or both of seconds."""
    if isinstance(one, Days) and isinstance(other, Days):
        return one.overlap(other)
    return cut(one, max(one.first, other.first), min(one.after, other.after))


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
            in_force = _both(in_force, between(None, begins_at, zone, by))
        yield version, _both(parts[version.kind], in_force)


def charge_for(
    subscription: Subscription, version: PriceVersion, in_force: Span, days: Days, zone: ZoneInfo
) -> Charge | None:
    """Return what a version that is in force on some days charges for of a period, if anything."""
    part = _both(_part(subscription, version, days, zone), in_force)
    return _charge(subscription, version, part, days, zone)


def _charge(
    subscription: Subscription, version: PriceVersion, part: Span, days: Days, zone: ZoneInfo
) -> Charge | None:
    if version.kind == SETUP:
        part = _both(_first_day(subscription, zone), part)
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


@dataclass(frozen=True, slots=True)
class Line:
    """One priced row of an invoice, rounded once to minor units.

    `adjusts`: the invoice that billed its period before, of an adjustment.
    """

    kind: str
    subscription_id: UUID
    price_id: UUID
    metric: str | None
    description: str
    quantity: Decimal
    unit_amount: Decimal | None
    amount_minor: int
    period: Period
    details: dict[str, Any]
    adjusts: UUID | None = None


class Plain:
    """The lines of one charge that are a quantity times an amount, and nothing else. Nearly all
    are, and they say the same but for their quantity: what `pricing.rate` makes of them, in a third
    of the time.

    Raises money.UnknownCurrency.
    """

    __slots__ = ("_amount", "_parts", "_same")

    def __init__(self, charge: Charge) -> None:
        version = charge.version
        unit = version.price.unit_price
        assert unit is not None  # noqa: S101 (it would not be plain)
        numerator, self._parts = unit.as_integer_ratio()
        self._amount = numerator * 10 ** money.minor_unit(charge.subscription.currency)
        self._same = (
            version.kind,
            version.id,
            version.metric,
            version.description or version.price_key,
            unit,
            charge.period,
            _about(charge),
        )

    def line(self, subscription_id: UUID, quantity: Decimal) -> Line:
        """Return the line of a quantity. Raises money.AmountOutOfRange."""
        kind, price_id, metric, description, unit, covers, details = self._same
        units, parts = money.exact_ratio(quantity)
        minor = money.divided_half_up(units * self._amount, parts * self._parts)
        return Line(
            kind,
            subscription_id,
            price_id,
            metric,
            description,
            quantity,
            unit,
            minor,
            covers,
            details,
        )


def lines(
    charged: Sequence[Charge], used: Iterable[pricing.Usage], ahead: Sequence[Line] = ()
) -> list[Line]:
    """Price the charges of one invoice, in their order.

    A commitment is charged with what is missing to it: its share of the period, less what the other
    lines of its subscription come to that begin on its days. A setup fee does not count.

    Args:
        used: what was used, for each charge with a metric, in their order.
        ahead: what was charged ahead for the same period.
    """
    of_charge, found = iter(used), list[Line]()
    for charge in charged:
        usage = pricing.NOTHING if charge.version.metric is None else next(of_charge)
        one = line(charge, usage)
        if one.kind == COMMITMENT:
            one = _missing(one, _reach(charge, charged), [*ahead, *found])
        found.append(one)
    return found


def _reach(charge: Charge, charged: Sequence[Charge]) -> Period | None:
    """When the usage begins that counts for a commitment; None if none may.

    Usage is of whole days: where seconds count, that of the day on which a commitment begins is its
    own, and not that of the one before.
    """
    if isinstance(charge.part, Days):
        return charge.period
    days = charge.days
    goes_on = any(
        other.version.kind == COMMITMENT
        and other.subscription.id == charge.subscription.id
        and other.part.starts_at(charge.zone) == charge.part.after
        for other in charged
    )
    if goes_on:
        days = Days(days.first, period.local_day(charge.part.after, charge.zone))
    return None if days.is_over_before_it_begins(charge.shown) else days.period(charge.shown)


def _missing(minimum: Line, usage: Period | None, others: Sequence[Line]) -> Line:
    reached = sum(
        one.amount_minor
        for one in others
        if one.subscription_id == minimum.subscription_id
        and one.kind in (FIXED, USAGE)
        and (reach := minimum.period if one.kind == FIXED else usage) is not None
        and reach.contains(one.period.start)
    )
    return replace(
        minimum,
        quantity=Decimal(1),
        unit_amount=None,
        amount_minor=max(0, minimum.amount_minor - reached),
        details={
            **{key: part for key, part in minimum.details.items() if key != "steps"},
            "commitment_minor": minimum.amount_minor,
            "reached_minor": reached,
        },
    )


def line(charge: Charge, usage: pricing.Usage) -> Line:
    """Price a charge. `usage` is what was used of its metric on its days; a fee ignores it.

    A fee is charged for the subscription's quantity (seats) and, where it was in force on some
    days of the period only, for their share. A setup fee and a commitment are those of the whole
    subscription, and a setup fee is never shared out. Usage is not prorated, it was counted on
    those days; its price's tiers, allowances and limits are, unless the price says otherwise.
    A line over no usage is kept, with an amount of 0: it shows that the metric was looked at.
    Raises money.UnknownCurrency, money.AmountOutOfRange.
    """
    if charge.plain is not None and len(usage.parts) == 1:
        return charge.plain.line(charge.subscription.id, usage.quantity)
    version, subscription = charge.version, charge.subscription
    share = charge.share
    if version.metric is not None:
        rated = pricing.rate(version.price, usage, subscription.currency, share=share)
        return _line(charge, rated)
    if version.kind == SETUP:
        share = pricing.WHOLE
    seats = subscription.quantity if version.kind == FIXED else Decimal(1)
    rated = pricing.fee(version.price, seats, subscription.currency, share=share)
    return _line(charge, rated)


def _about(charge: Charge) -> dict[str, Any]:
    version = charge.version
    return _details(
        version.plan_key,
        version.price_key,
        version.price.model.value,
        (units_of(charge.part), len(charge.part), charge.units_of_period),
    )


def units_of(part: Span) -> str:
    """Return the name of what a part of a period is counted in, as a line's details say it."""
    return f"{_unit(part).value}s"


def is_by_second(line: Line) -> bool:
    """Tell whether a line's share of its period is in seconds."""
    return "seconds" in line.details


# One object for all lines that say the same, since it is written down once, too: nobody changes it.
@lru_cache(maxsize=8192)
def _details(
    plan_key: str, price_key: str, model: str, share: tuple[str, int, int]
) -> dict[str, Any]:
    units, count, of = share
    return {
        "plan_key": plan_key,
        "price_key": price_key,
        "model": model,
        units: count,
        f"{units}_of_period": of,
    }


def _line(charge: Charge, rated: pricing.Line) -> Line:
    version = charge.version
    details = _about(charge)
    if not rated.is_plain:
        details = {**details, "steps": pricing.as_json(rated.steps)}
    return Line(
        kind=version.kind,
        subscription_id=charge.subscription.id,
        price_id=version.id,
        metric=version.metric,
        description=version.description or version.price_key,
        quantity=rated.quantity,
        unit_amount=rated.unit_amount,
        amount_minor=rated.amount_minor,
        period=charge.period,
        details=details,
    )


def total(lines: Sequence[Line]) -> int:
    """The sum of the rounded lines, in minor units: what a reader adds up is what is owed."""
    return sum(one.amount_minor for one in lines)

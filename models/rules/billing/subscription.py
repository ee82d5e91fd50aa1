"""A tenant on a plan: how many seats, in which rhythm, and what of it has no invoice yet."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from models.rules import calendar_periods, period, seconds
from models.rules.billing.spans import (
    Days,
    Span,
    between,
    cut,
    days_between,
    local_day,
    midnight,
    touched,
    unit_of,
)
from models.rules.period import Anchor, Interval
from models.rules.proration import Proration


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
        by = unit_of(part)
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
        return touched(seconds.between(self.effective_at, self.ended_at), zone)

    def charged(self, zone: ZoneInfo, by: Proration) -> Span:
        """The days, or the seconds, it is charged for: those after its trial. Possibly none."""
        found = between(self.effective_at, self.ended_at, zone, by)
        if self.trial_ends_at is None:
            return found
        first = max(found.first, between(self.trial_ends_at, None, zone, by).first)
        return cut(found, first, found.after)

    def charged_days(self, zone: ZoneInfo) -> Days:
        """The local days on which it is charged for something. Possibly none."""
        return touched(self.charged(zone, self.proration), zone)

    def is_billed_for(self, days: Days, zone: ZoneInfo) -> bool:
        """Whether `days` is one of its billing periods and invoices are for some of them."""
        shared = self.billed_days(zone).overlap(days)
        return len(shared) > 0 and self.cycle.containing(days.first, zone) == days


def replacement(
    found: Subscription, wanted: Subscription, at: datetime, zone: ZoneInfo
) -> Subscription:
    """Return a new subscription as the one that takes the place of `found` at an instant.

    Its periods go on as they were if the rhythm is the same; a trial goes on; a setup fee is owed
    only if `found` was charged for on no day.
    """
    before, cycle = found.cycle, wanted.cycle
    day = local_day(at, zone)
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

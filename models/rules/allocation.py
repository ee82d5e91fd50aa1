"""A plan's credit: how much of it a subscription gets, when, until when, and what is carried on.

Counted in local days, as invoices are: a billing period is a run of days, and what begins it is the
midnight of the first, or the subscription itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from models.rules import billing, money, period
from models.rules.billing import Days, Subscription
from models.rules.refusal import Refusal


class Rollover(StrEnum):
    """What becomes of credit that is left when its period ends."""

    none = "none"
    capped = "capped"
    all = "all"


class InvalidTerms(Refusal):
    """The terms of a plan's credit contradict one another."""

    code: ClassVar[str] = "plan_credit.invalid"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan gives of a product in each billing period.

    `limit` units above 0; valid for `validity_days` local days, or until the period ends (None).
    What is left at the period's end is written off, or carried on up to `cap`, or all of it; only
    credit that ends with its period can be carried. `prorate_first`: a subscription that begins in
    the middle of a period gets the share of its days. Raises InvalidTerms.
    """

    product_key: str
    limit: Decimal
    validity_days: int | None = None
    rollover: Rollover = Rollover.none
    cap: Decimal | None = None
    prorate_first: bool = False

    def __post_init__(self) -> None:
        if (self.rollover is Rollover.capped) != (self.cap is not None):
            raise InvalidTerms(
                f"credit of {self.product_key!r} has rollover {self.rollover.value!r} and a cap of "
                f"{self.cap}; 'capped' needs a rollover_cap, the others have none",
                field="credits",
            )
        if self.rollover is not Rollover.none and self.validity_days is not None:
            raise InvalidTerms(
                f"credit of {self.product_key!r} is valid for {self.validity_days} days and has "
                f"rollover {self.rollover.value!r}; only credit that ends with its period is "
                "carried on: leave one of the two out",
                field="credits",
            )


@dataclass(frozen=True, slots=True)
class Version:
    """Terms of a plan while they stayed the same; None is from the beginning, or until further
    notice."""

    id: UUID
    terms: Terms
    effective_at: datetime | None
    ended_at: datetime | None

    def is_in_force(self, at: datetime) -> bool:
        """Whether they hold at an instant: the end is not inside."""
        return (self.effective_at is None or self.effective_at <= at) and (
            self.ended_at is None or at < self.ended_at
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A billing period that a subscription gets credit for: its whole `days`, and the instant from
    which on, within them, the subscription is in force."""

    days: Days
    starts_at: datetime


def slots(subscription: Subscription, zone: ZoneInfo, *, since: date | None) -> Iterator[Slot]:
    """The billing periods in which a subscription is in force, in order.

    Args:
        since: from the period of this local day on; None is from the first one.
    """
    charged = subscription.days(zone)
    day = max(since or date.min, charged.first)
    while day < charged.after:
        days = subscription.cycle.containing(day, zone)
        yield Slot(days, max(billing.midnight(days.first, zone), subscription.effective_at))
        day = days.after


def amount(terms: Terms, slot: Slot, subscription: Subscription, zone: ZoneInfo) -> Decimal:
    """What a period gives, in as many decimals as the limit has; 0 for a very small share.

    A share is that of the local days from the subscription's first, rounded half up.
    """
    first = subscription.days(zone).first
    if not terms.prorate_first or first <= slot.days.first:
        return terms.limit
    share = Fraction((slot.days.after - first).days, len(slot.days))
    decimals = max(0, -_exponent(terms.limit))
    units = money.round_half_up(money.exact_fraction(terms.limit) * share * 10**decimals)
    with money.exact():
        return Decimal(units).scaleb(-decimals)


def ends_at(days: Days, subscription: Subscription, zone: ZoneInfo) -> datetime:
    """When credit that ends with its period ends: with the subscription, if that is sooner."""
    after = min(days.after, subscription.days(zone).after)
    return billing.midnight(after, zone)


def expires_at(terms: Terms, slot: Slot, subscription: Subscription, zone: ZoneInfo) -> datetime:
    """When a period's credit ends: midnight after its days of validity, or with its period."""
    if terms.validity_days is None:
        return ends_at(slot.days, subscription, zone)
    day = period.local_day(slot.starts_at, zone) + timedelta(days=terms.validity_days)
    return billing.midnight(day, zone)


def carried(terms: Terms, rest: Decimal) -> Decimal:
    """How much of what was left at a period's end is carried into the next one."""
    if terms.rollover is Rollover.none:
        return Decimal(0)
    return rest if terms.cap is None else min(rest, terms.cap)


def versions_at(versions: Sequence[Version], at: datetime) -> list[Version]:
    """The terms in force at an instant, by product."""
    held = [version for version in versions if version.is_in_force(at)]
    return sorted(held, key=lambda version: version.terms.product_key)


def _exponent(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0

"""Quotas: what a tenant may use in a day or a month, and whether a use still fits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from models.rules import calendar_periods, money
from models.rules.period import Anchor, Interval, Period

_ANY_DAY: Final = date(2001, 1, 1)


class Window(StrEnum):
    """How long a limit counts before it begins anew: a day or a calendar month of the tenant."""

    day = "day"
    month = "month"


@dataclass(frozen=True, slots=True)
class Right:
    """One right to use a metric: by a plan that the tenant is on, or the tenant's own.

    Args:
        limit: how much in a window, 0 or more; None is without limit.
        is_soft: use beyond the limit is allowed and flagged.
        per_seat: the limit is for each unit of the subscription's `quantity`.
        plan_key: which plan; None for the tenant's own, which stands in for those of all plans.
    """

    window: Window
    limit: Decimal | None
    is_soft: bool = False
    per_seat: bool = False
    quantity: Decimal = Decimal(1)
    plan_key: str | None = None

    @property
    def whole_limit(self) -> Decimal | None:
        """What it adds to the tenant's limit."""
        if self.limit is None or not self.per_seat:
            return self.limit
        with money.exact():
            return self.limit * self.quantity


@dataclass(frozen=True, slots=True)
class Limit:
    """What a tenant may use of a metric in each window of one length; None is without limit."""

    window: Window
    amount: Decimal | None
    is_soft: bool


def limits(rights: Iterable[Right]) -> list[Limit]:
    """Put the rights to one metric together: one limit for each length of window, day first.

    The tenant's own stands alone. Those of plans add up, one without limit makes the sum so, and
    one that is soft makes it soft: another plan never takes away what was allowed before.
    """
    given = list(rights)
    by_window = {window: [each for each in given if each.window is window] for window in Window}
    return [_limit(window, found) for window, found in by_window.items() if found]


def _limit(window: Window, rights: Sequence[Right]) -> Limit:
    counting = [each for each in rights if each.plan_key is None] or rights
    with money.exact():
        amount: Decimal | None = Decimal(0)
        for each in counting:
            whole = each.whole_limit
            amount = None if amount is None or whole is None else amount + whole
    return Limit(window, amount, any(each.is_soft for each in counting))


def window_at(at: datetime, window: Window, zone: ZoneInfo) -> Period:
    """The window that holds the instant `at`: a local day, or a local calendar month."""
    return calendar_periods.containing(
        at,
        interval=Interval.day if window is Window.day else Interval.month,
        anchor=Anchor.calendar,
        anchored_on=_ANY_DAY,
        zone=zone,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit in one window, and how much was used in it so far."""

    limit: Limit
    period: Period
    used: Decimal

    @property
    def remaining(self) -> Decimal | None:
        """What still fits, never below 0; None is without limit."""
        if self.limit.amount is None:
            return None
        with money.exact():
            return max(Decimal(0), self.limit.amount - self.used)

    @property
    def is_exceeded(self) -> bool:
        """Whether more was used than the limit."""
        return self.limit.amount is not None and self.used > self.limit.amount

    def after(self, amount: Decimal) -> "Standing":
        """The same with `amount` more used."""
        with money.exact():
            return Standing(self.limit, self.period, self.used + amount)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a use is allowed.

    Args:
        binding: the limit that decides: of those that refuse the one that resets last, otherwise
            the one that leaves least. None where there is no right at all.
        exceeded: the limits that the use would break (refused) or goes beyond (allowed).
    """

    allowed: bool
    binding: Standing | None
    exceeded: Sequence[Standing]


def decide(standings: Sequence[Standing], amount: Decimal) -> Decision:
    """Whether `amount`, 0 or more, fits into every hard limit. No limit at all is no right."""
    beyond = [each for each in standings if each.after(amount).is_exceeded]
    refusing = [each for each in beyond if not each.limit.is_soft]
    if refusing:
        return Decision(False, max(refusing, key=_end), refusing)
    binding = min(standings, key=_room, default=None)
    return Decision(binding is not None, binding, beyond)


def _end(standing: Standing) -> datetime:
    return standing.period.end


def _room(standing: Standing) -> tuple[bool, Decimal, datetime]:
    remaining = standing.remaining
    return remaining is None, remaining or Decimal(0), standing.period.end

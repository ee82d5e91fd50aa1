"""The share of a billing period that was used, and what it costs."""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from models.rules import money
from models.rules.period import Period

_MICROSECOND: Final = timedelta(microseconds=1)


class Proration(StrEnum):
    """What a plan's fees are shared out by where they are for a part of a period."""

    day = "day"
    """Local days; the day of a change belongs to what comes after it."""
    second = "second"
    """Seconds of real time."""


class OutsidePeriod(ValueError):
    """The used part is not inside the full period."""

    def __init__(self, used: Period, full: Period) -> None:
        super().__init__(
            f"used [{used.start.isoformat()}, {used.end.isoformat()}) must lie inside "
            f"[{full.start.isoformat()}, {full.end.isoformat()})"
        )


class PeriodWithoutDays(ValueError):
    """The full period begins and ends in the same local day, so days can not share it out."""

    def __init__(self, full: Period, zone: ZoneInfo) -> None:
        super().__init__(
            f"period [{full.start.isoformat()}, {full.end.isoformat()}) has no whole local day in "
            f"{zone.key}: prorate it by seconds"
        )


def by_days(*, used: Period, full: Period, zone: ZoneInfo) -> Fraction:
    """`used` as a share of `full` in local calendar days, from 0 to 1.

    The day of a change belongs to what comes after it: 1 to 12 February is 11 days, the rest of
    that February 17, or 18 in a leap year. Shares of adjoining parts add up to exactly 1.
    Raises OutsidePeriod, PeriodWithoutDays.
    """
    _check_inside(used, full)
    whole = full.days(zone)
    if whole == 0:
        raise PeriodWithoutDays(full, zone)
    return Fraction(used.days(zone), whole)


def by_seconds(*, used: Period, full: Period) -> Fraction:
    """`used` as a share of `full` in elapsed time, to the microsecond. Raises OutsidePeriod."""
    _check_inside(used, full)
    return Fraction(
        (used.end - used.start) // _MICROSECOND, (full.end - full.start) // _MICROSECOND
    )


def prorate(amount: Decimal, share: Fraction, currency: str) -> int:
    """`amount` x `share` in minor units of `currency`: exact, then rounded once, half up.

    Raises money.UnknownCurrency, money.AmountOutOfRange.
    """
    scale: int = 10 ** money.minor_unit(currency)
    return money.round_half_up(money.exact_fraction(amount) * share * scale)


def _check_inside(used: Period, full: Period) -> None:
    if used.start < full.start or used.end > full.end:
        raise OutsidePeriod(used, full)

"""The calendar that tiles time: days, weeks, months and years, one after another."""

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from models.rules import period
from models.rules.period import Anchor, Interval, Period

_WEEK: Final = 7

# It was a Monday, so it began a week as well as a month, a quarter and a year.
_CALENDAR_ORIGIN: Final = date(2001, 1, 1)


def containing(
    at: datetime, *, interval: Interval, anchor: Anchor, anchored_on: date, zone: ZoneInfo
) -> Period:
    """The billing period that holds the instant `at`; its bounds are local midnights.

    Calendar periods begin with the local day, week (Monday), month, quarter or year, and do not
    look at `anchored_on`. Anniversary periods begin on the day of `anchored_on`, clamped to the end
    of shorter months each time from the anchor itself: 31 Jan, 28 Feb, 31 Mar; 29 Feb, yearly,
    is 28 Feb in common years. They go on before `anchored_on` as they do after it.
    """
    day = period.local_day(at, zone)
    match anchor:
        case Anchor.calendar:
            first, after = _bounds(day, interval, _CALENDAR_ORIGIN)
        case Anchor.anniversary:
            first, after = _bounds(day, interval, anchored_on)
        case _:
            assert_never(anchor)
    return Period(period.local_midnight(first, zone), period.local_midnight(after, zone))


def following(
    period: Period, *, interval: Interval, anchor: Anchor, anchored_on: date, zone: ZoneInfo
) -> Period:
    """The billing period that begins where `period` ends, or holds that instant."""
    return containing(
        period.end, interval=interval, anchor=anchor, anchored_on=anchored_on, zone=zone
    )


def between(
    since: datetime,
    until: datetime,
    *,
    interval: Interval,
    anchor: Anchor,
    anchored_on: date,
    zone: ZoneInfo,
) -> Iterator[Period]:
    """The billing periods that share an instant with [since, until), in order, whole and uncut."""
    at, until = period.in_utc(since), period.in_utc(until)
    while at < until:
        found = containing(at, interval=interval, anchor=anchor, anchored_on=anchored_on, zone=zone)
        yield found
        at = found.end


def add_months(day: date, months: int) -> date:
    """`day` moved by calendar `months` (also negative), clamped to the end of a shorter month.

    To repeat, count from the first day, never from the last result: 31 Jan + 2 is 31 Mar.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _bounds(day: date, interval: Interval, origin: date) -> tuple[date, date]:
    match interval:
        case Interval.day:
            return day, day + timedelta(days=1)
        case Interval.week:
            first = day - timedelta(days=(day - origin).days % _WEEK)
            return first, first + timedelta(days=_WEEK)
        case Interval.month:
            return _month_bounds(day, 1, origin)
        case Interval.quarter:
            return _month_bounds(day, 3, origin)
        case Interval.year:
            return _month_bounds(day, 12, origin)
        case _:
            assert_never(interval)


def _month_bounds(day: date, step: int, origin: date) -> tuple[date, date]:
    months = (day.year - origin.year) * 12 + day.month - origin.month
    whole = months // step * step
    if add_months(origin, whole) > day:
        whole -= step
    return add_months(origin, whole), add_months(origin, whole + step)

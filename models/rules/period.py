"""Time as billing sees it: local days, half-open periods, and the calendar that tiles them."""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, assert_never
from zoneinfo import ZoneInfo

_ONE_DAY: Final = timedelta(days=1)
_WEEK: Final = 7

# It was a Monday, so it began a week as well as a month, a quarter and a year.
_CALENDAR_ORIGIN: Final = date(2001, 1, 1)

# Files of the time zone database that are no place: the machine's own zone, leap-second copies.
_NOT_PLACES: Final = ("posix/", "right/", "posixrules", "localtime", "Factory")


class Interval(StrEnum):
    """How long a billing period is."""

    day = "day"
    week = "week"
    month = "month"
    quarter = "quarter"
    year = "year"


class Anchor(StrEnum):
    """Where billing periods begin: with the calendar, or on the day of an anniversary."""

    calendar = "calendar"
    anniversary = "anniversary"


class ExpiryUnit(StrEnum):
    """What an offer's validity is counted in."""

    hours = "hours"
    days = "days"
    months = "months"
    years = "years"
    forever = "forever"


class UnknownTimezone(ValueError):
    """The name is no place in the IANA time zone database."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown timezone {name!r}: it must be an IANA name, as Europe/Paris")
        self.name = name


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone called `name` ("Europe/Paris", "UTC"). Raises UnknownTimezone."""
    if name.startswith(_NOT_PLACES):
        raise UnknownTimezone(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UnknownTimezone(name) from None


class Moved(ZoneInfo):
    """The zone of somebody who moved: days up to the move are those of the zone before it.

    Each instant is on one day, and days follow one another, whichever way it went. The day of the
    move ends where the next one begins here, so it is up to 26 hours longer or shorter; who moves
    east far enough has no time left on a day, which then is empty. As a tzinfo it is the zone they
    are in now.
    """

    before: ZoneInfo
    moved_at: datetime

    @property
    def now(self) -> ZoneInfo:
        """Where they are now."""
        return ZoneInfo(self.key)

    @property
    def last_day(self) -> date:
        """The day of the move, by the zone before it."""
        return local_day(self.moved_at - timedelta(microseconds=1), self.before)


def moved(to: ZoneInfo, *, at: datetime, before: ZoneInfo) -> Moved:
    """Return the zone of somebody who moved at an instant; `before` may be such a zone, too."""
    zone = Moved.no_cache(to.key)
    zone.before, zone.moved_at = before, _utc(at)
    return zone


def zone_of(day: date, zone: ZoneInfo) -> ZoneInfo:
    """The plain zone that the beginning of a day is told by."""
    while isinstance(zone, Moved):
        if day > zone.last_day:
            return zone.now
        zone = zone.before
    return zone


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of local `day`, in UTC.

    Where midnight comes twice it is the first; where the clocks jump over it, the jump. A day
    that a zone skipped whole (Apia, 2011-12-30) is empty: it begins where the next one does.
    """
    if isinstance(zone, Moved):
        if day <= zone.last_day:
            return local_midnight(day, zone.before)
        return max(zone.moved_at, local_midnight(day, zone.now))
    # fold=0 means the first of two midnights, and in a gap the offset before it. All the gaps over
    # midnight since 1970 begin at midnight, so that offset names the instant of the jump.
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The day that holds the instant `at`: local_midnight(day) <= at < local_midnight(day + 1).

    Told by instants, not by the wall clock, which shows yesterday's date again where clocks go back
    across midnight (America/St_Johns until 2011, at 00:01). Raises NaiveInstant.
    """
    at = _utc(at)
    if isinstance(zone, Moved):
        if at < zone.moved_at:
            return local_day(at, zone.before)
        return max(zone.last_day, local_day(at, zone.now))
    day = at.astimezone(zone).date()
    while at < local_midnight(day, zone):
        day -= _ONE_DAY
    while at >= local_midnight(day + _ONE_DAY, zone):
        day += _ONE_DAY
    return day


class NaiveInstant(ValueError):
    """The instant has no time zone, so it could be any of fifty."""

    def __init__(self, at: datetime) -> None:
        super().__init__(f"instant {at.isoformat()} has no time zone: give it one, as +00:00")


class EmptyPeriod(ValueError):
    """The period does not end after it starts."""

    def __init__(self, start: datetime, end: datetime) -> None:
        super().__init__(
            f"period [{start.isoformat()}, {end.isoformat()}) is empty: its end must be after its "
            "start"
        )


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A half-open stretch of time: `start` is inside, `end` is not. Both are kept in UTC.

    Raises NaiveInstant for a bound without a time zone, EmptyPeriod unless start < end.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _utc(self.start))
        object.__setattr__(self, "end", _utc(self.end))
        if self.start >= self.end:
            raise EmptyPeriod(self.start, self.end)

    def contains(self, at: datetime) -> bool:
        """Whether the instant `at` is inside."""
        return self.start <= at < self.end

    def days(self, zone: ZoneInfo) -> int:
        """Local calendar days from the day of `start` to the day of `end`: a difference of dates.

        The day in which the period ends is not counted, so adjoining periods add up and the day of
        a change belongs to what comes after it.
        """
        return (local_day(self.end, zone) - local_day(self.start, zone)).days


def day_bounds(day: date, zone: ZoneInfo) -> Period:
    """The local `day` as a period of 23, 24 or 25 hours. Raises EmptyPeriod for a skipped day."""
    return Period(local_midnight(day, zone), local_midnight(day + _ONE_DAY, zone))


def period_containing(
    at: datetime, *, interval: Interval, anchor: Anchor, anchored_on: date, zone: ZoneInfo
) -> Period:
    """The billing period that holds the instant `at`; its bounds are local midnights.

    Calendar periods begin with the local day, week (Monday), month, quarter or year, and do not
    look at `anchored_on`. Anniversary periods begin on the day of `anchored_on`, clamped to the end
    of shorter months each time from the anchor itself: 31 Jan, 28 Feb, 31 Mar; 29 Feb, yearly,
    is 28 Feb in common years. They go on before `anchored_on` as they do after it.
    """
    day = local_day(at, zone)
    match anchor:
        case Anchor.calendar:
            first, after = _bounds(day, interval, _CALENDAR_ORIGIN)
        case Anchor.anniversary:
            first, after = _bounds(day, interval, anchored_on)
        case _:
            assert_never(anchor)
    return Period(local_midnight(first, zone), local_midnight(after, zone))


def following(
    period: Period, *, interval: Interval, anchor: Anchor, anchored_on: date, zone: ZoneInfo
) -> Period:
    """The billing period that begins where `period` ends, or holds that instant."""
    return period_containing(
        period.end, interval=interval, anchor=anchor, anchored_on=anchored_on, zone=zone
    )


def periods_between(
    since: datetime,
    until: datetime,
    *,
    interval: Interval,
    anchor: Anchor,
    anchored_on: date,
    zone: ZoneInfo,
) -> Iterator[Period]:
    """The billing periods that share an instant with [since, until), in order, whole and uncut."""
    at, until = _utc(since), _utc(until)
    while at < until:
        period = period_containing(
            at, interval=interval, anchor=anchor, anchored_on=anchored_on, zone=zone
        )
        yield period
        at = period.end


def add_months(day: date, months: int) -> date:
    """`day` moved by calendar `months` (also negative), clamped to the end of a shorter month.

    To repeat, count from the first day, never from the last result: 31 Jan + 2 is 31 Mar.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


class ExpiryOutOfRange(ValueError):
    """The validity is shorter than one unit or ends after the year 9999."""

    def __init__(self, count: int, unit: ExpiryUnit) -> None:
        super().__init__(
            f"a validity of {count} {unit} is out of range: it must be 1 or more and end before "
            "the year 10000"
        )


def expiry(at: datetime, *, unit: ExpiryUnit, count: int, zone: ZoneInfo) -> datetime | None:
    """When what is granted at `at` for `count` (1 or more) `unit`s ends, in UTC; None is never.

    Hours are counted by the clock that never jumps. Days, months and years keep the local time of
    day, months and years clamped to the end of the month; a local time that comes twice is its
    first, one the clocks jump over is moved on by the jump. `forever` does not look at `count`.
    Raises ExpiryOutOfRange, NaiveInstant.
    """
    at = _utc(at)
    if count < 1 and unit is not ExpiryUnit.forever:
        raise ExpiryOutOfRange(count, unit)
    try:
        return _expiry(at, unit, count, zone)
    except (ValueError, OverflowError):
        raise ExpiryOutOfRange(count, unit) from None


def _expiry(at: datetime, unit: ExpiryUnit, count: int, zone: ZoneInfo) -> datetime | None:
    local = at.astimezone(zone)
    match unit:
        case ExpiryUnit.hours:
            return at + timedelta(hours=count)
        case ExpiryUnit.days:
            return _same_time(local, local.date() + timedelta(days=count))
        case ExpiryUnit.months:
            return _same_time(local, add_months(local.date(), count))
        case ExpiryUnit.years:
            return _same_time(local, add_months(local.date(), 12 * count))
        case ExpiryUnit.forever:
            return None
        case _:
            assert_never(unit)


def _same_time(local: datetime, day: date) -> datetime:
    return datetime.combine(day, local.time().replace(fold=0), tzinfo=local.tzinfo).astimezone(UTC)


def _bounds(day: date, interval: Interval, origin: date) -> tuple[date, date]:
    match interval:
        case Interval.day:
            return day, day + _ONE_DAY
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


def _utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise NaiveInstant(at)
    return at.astimezone(UTC)

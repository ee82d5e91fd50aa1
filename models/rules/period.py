"""Time as billing sees it: local days, half-open periods, and the calendar that tiles them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

_ONE_DAY: Final = timedelta(days=1)

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
    zone.before, zone.moved_at = before, in_utc(at)
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
    at = in_utc(at)
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
        object.__setattr__(self, "start", in_utc(self.start))
        object.__setattr__(self, "end", in_utc(self.end))
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


def in_utc(at: datetime) -> datetime:
    """The same instant in UTC. Raises NaiveInstant."""
    if at.utcoffset() is None:
        raise NaiveInstant(at)
    return at.astimezone(UTC)

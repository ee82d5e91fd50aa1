"""Runs of local days, and of seconds: what a period and whatever shares it are made of."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import cast
from zoneinfo import ZoneInfo

from models.rules import period, seconds
from models.rules.period import Period
from models.rules.proration import Proration
from models.rules.seconds import Seconds


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


# What is remembered here a billing run asks for thousands of times: the same few days of the same
# few zones.
@lru_cache(maxsize=8192)
def days_between(start: datetime | None, end: datetime | None, zone: ZoneInfo) -> Days:
    """The days from the one that holds `start` up to the one that holds `end`; None is unbounded.

    So a subscription that ends at noon is not charged for that day: what follows it is.
    """
    return Days(
        date.min if start is None else local_day(start, zone),
        date.max if end is None else local_day(end, zone),
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
def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC."""
    return period.local_midnight(day, zone)


def touched(part: Span, zone: ZoneInfo) -> Days:
    """The local days that it has time on."""
    if isinstance(part, Days):
        return part
    first = part.first_day(zone)
    return Days(first, part.day_after(zone) if part else first)


def unit_of(part: Span) -> Proration:
    """What a part of a period is counted in."""
    return Proration.second if isinstance(part, Seconds) else Proration.day


def in_units(by: Proration, days: Days, zone: ZoneInfo) -> Span:
    """The same days, or the seconds from the beginning of the first to that of the one after."""
    if by is Proration.day:
        return days
    return seconds.between(midnight(days.first, zone), midnight(days.after, zone))


def both(one: Span, other: Span) -> Span:
    """What both share, which are both of days, or both of seconds."""
    if isinstance(one, Days) and isinstance(other, Days):
        return one.overlap(other)
    return cut(one, max(one.first, other.first), min(one.after, other.after))


@lru_cache(maxsize=8192)
def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The local day that holds an instant."""
    return period.local_day(at, zone)


@lru_cache(maxsize=8192)
def _instants(days: Days, zone: ZoneInfo) -> Period:
    return Period(midnight(days.first, zone), midnight(days.after, zone))

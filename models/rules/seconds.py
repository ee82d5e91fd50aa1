"""Runs of seconds: what is counted by the second, as `billing.Days` are what is counted by the day.

The second in which something changes belongs to what comes after the change, as a day does. So
parts that follow one another neither overlap nor leave anything out, whatever their microseconds.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from models.rules import period
from models.rules.period import Period

_ONE: Final = timedelta(seconds=1)
_ONE_DAY: Final = timedelta(days=1)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC, microsecond=0)


@dataclass(frozen=True, slots=True, order=True)
class Seconds:
    """Seconds of real time from `first` up to `after`; none if first >= after. Both are in UTC."""

    first: datetime
    after: datetime

    def __len__(self) -> int:
        return max(0, (self.after - self.first) // _ONE)

    def overlap(self, other: "Seconds") -> "Seconds":
        """The seconds in both, possibly none."""
        return Seconds(max(self.first, other.first), min(self.after, other.after))

    def period(self, zone: ZoneInfo) -> Period:  # noqa: ARG002 (days are told by their zone)
        """The same as instants, wherever. Raises period.EmptyPeriod for no time."""
        return Period(self.first, self.after)

    def starts_at(self, zone: ZoneInfo) -> datetime:  # noqa: ARG002 (days are told by their zone)
        """The first instant, wherever."""
        return self.first

    def is_over_before_it_begins(self, zone: ZoneInfo) -> bool:  # noqa: ARG002 (as above)
        """Whether there is no time in it."""
        return not self

    def first_day(self, zone: ZoneInfo) -> date:
        """The local day that it begins on."""
        return _local_day(self.first, zone)

    def day_after(self, zone: ZoneInfo) -> date:
        """The local day that follows the last one that it has time on; it has some."""
        if self.after == _END:
            return date.max
        return _local_day(self.after - _ONE, zone) + _ONE_DAY


def between(start: datetime | None, end: datetime | None) -> Seconds:
    """The seconds from the one that holds `start` up to the one that holds `end`; None is
    unbounded."""
    return Seconds(
        _BEGINNING if start is None else _whole(start), _END if end is None else _whole(end)
    )


def _whole(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)


@lru_cache(maxsize=8192)
def _local_day(at: datetime, zone: ZoneInfo) -> date:
    return period.local_day(at, zone)

"""The calendar once more, the simple way: billing periods as runs of dates."""

import datetime as dt
import functools
import itertools
from zoneinfo import ZoneInfo

DAY = dt.timedelta(days=1)
LEAST = dt.timedelta(microseconds=1)

MONTHS = {"month": 1, "quarter": 3, "year": 12}


def midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """The instant at which a date begins."""
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


class Places:
    """Where somebody is, and since when: a day is never over before it began, nor comes again."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._stays = [(dt.datetime.min.replace(tzinfo=dt.UTC), zone)]

    @property
    def zone(self) -> ZoneInfo:
        return self._stays[-1][1]

    @property
    def zones(self) -> set[str]:
        return {zone.key for _, zone in self._stays}

    def move(self, zone: ZoneInfo, at: dt.datetime) -> None:
        self._stays.append((at, zone))

    def day(self, at: dt.datetime) -> dt.date:
        days = []
        for (since, zone), until in self._lasting():
            if since <= at:
                days.append((min(at, until - LEAST) if until else at).astimezone(zone).date())
        return max(days)

    def midnight(self, day: dt.date) -> dt.datetime:
        """The first instant of a day, or of the next one if it has none."""
        begins = [
            (max(since, midnight(day, zone)), until) for (since, zone), until in self._lasting()
        ]
        return next(begin for begin, until in begins if until is None or begin < until)

    def _lasting(self) -> list[tuple[tuple[dt.datetime, ZoneInfo], dt.datetime | None]]:
        ends = [since for since, _ in self._stays[1:]]
        return list(zip(self._stays, [*ends, None], strict=True))


@functools.cache
def period_of(
    day: dt.date, interval: str, anchor: str, anchored_on: dt.date
) -> tuple[dt.date, dt.date]:
    """First day, and day after the last, of the billing period that holds a day."""
    origin = anchored_on if anchor == "anniversary" else dt.date(2024, 1, 1)  # a Monday
    # From before the origin on: who had said the wrong zone began the day before it, perhaps.
    for number in itertools.count(-2):
        first, after = (_step(origin, interval, number + more) for more in (0, 1))
        if first <= day < after:
            return first, after
    raise AssertionError("there is no last period")


def _step(origin: dt.date, interval: str, number: int) -> dt.date:
    if interval in ("day", "week"):
        return origin + DAY * number * (7 if interval == "week" else 1)
    month = origin.year * 12 + origin.month - 1 + number * MONTHS[interval]
    for last in (31, 30, 29, 28):
        if origin.day >= last or last == 28:
            try:
                return dt.date(month // 12, month % 12 + 1, min(origin.day, last))
            except ValueError:
                continue
    raise AssertionError("a month has 28 days")

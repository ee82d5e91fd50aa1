"""The calendar once more, the simple way: billing periods as runs of dates."""

import datetime as dt
import functools
import itertools
from zoneinfo import ZoneInfo

DAY = dt.timedelta(days=1)

MONTHS = {"month": 1, "quarter": 3, "year": 12}


def midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """The instant at which a date begins."""
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


@functools.cache
def period_of(
    day: dt.date, interval: str, anchor: str, anchored_on: dt.date
) -> tuple[dt.date, dt.date]:
    """First day, and day after the last, of the billing period that holds a day."""
    origin = anchored_on if anchor == "anniversary" else dt.date(2024, 1, 1)  # a Monday
    for number in itertools.count():
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

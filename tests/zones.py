"""A tenant's time zone for a test that goes by the real clock."""

import datetime as dt
from zoneinfo import ZoneInfo

AHEAD = dt.timedelta(hours=1)
"""Longer than any test takes."""


def amid_a_day() -> ZoneInfo:
    """A time zone in which no day, and so no month, ends while a test runs."""
    zones = map(ZoneInfo, ("Asia/Kathmandu", "Asia/Tokyo"))
    return next(zone for zone in zones if is_same_day(dt.datetime.now(zone)))


def is_same_day(local: dt.datetime) -> bool:
    return local.date() == (local + AHEAD).date()

"""SQL and Python agree on when each local day begins, around every change of the clocks."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from models import database
from models.rules import period

DAY = dt.timedelta(days=1)
FIRST, LAST = dt.date(1990, 1, 1), dt.date(2024, 12, 31)
ZONES = [
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
]


def days_around_changes(zone: ZoneInfo) -> list[dt.date]:
    found = {FIRST, LAST}
    offset = None
    for number in range((LAST - FIRST).days):
        day = FIRST + number * DAY
        noon = dt.datetime.combine(day, dt.time(12), tzinfo=zone).utcoffset()
        if noon != offset:
            found |= {day + step * DAY for step in range(-2, 3)}
        offset = noon
    return sorted(found)


@pytest.mark.parametrize("name", ZONES)
def test_a_local_day_begins_at_the_same_instant_in_sql_and_python(
    session: database.Session, name: str
) -> None:
    zone = ZoneInfo(name)
    days = days_around_changes(zone)

    in_sql = session.execute(
        text("SELECT local_midnight(day, :zone) FROM unnest(CAST(:days AS date[])) AS day"),
        {"zone": name, "days": days},
    ).scalars()

    assert dict(zip(days, in_sql, strict=True)) == {
        day: period.local_midnight(day, zone) for day in days
    }

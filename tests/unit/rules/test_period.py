"""Local days, periods, expiry: by hand where clocks do odd things, by property everywhere."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import calendar_periods, expiry, period
from models.rules.expiry import ExpiryUnit
from models.rules.period import Anchor, Interval, Period
from tests.unit.rules import vectors

DAY = timedelta(days=1)
ODD_ZONES = [
    "UTC",
    "America/Havana",  # midnight comes twice in autumn
    "America/St_Johns",  # until 2011 clocks went back across midnight, at 00:01
    "America/Sao_Paulo",  # until 2018 spring began at midnight, which did not exist
    "America/Santiago",
    "America/New_York",
    "America/Nuuk",
    "Asia/Beirut",
    "Asia/Kathmandu",  # +05:45
    "Asia/Gaza",
    "Africa/Casablanca",
    "Antarctica/Troll",  # two hours of summer time
    "Australia/Lord_Howe",  # half an hour of summer time
    "Europe/Paris",
    "Pacific/Apia",  # skipped 2011-12-30
    "Pacific/Kiritimati",  # +14:00, skipped 1994-12-31
    "Pacific/Kwajalein",  # skipped 1993-08-21
    "Pacific/Chatham",
]

zones = st.sampled_from(ODD_ZONES).map(ZoneInfo)
instants = st.datetimes(
    datetime(1975, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    datetime(2037, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
LENGTH = {
    Interval.day: 1,
    Interval.week: 7,
    Interval.month: 30,
    Interval.quarter: 91,
    Interval.year: 365,
}
days = st.dates(date(1975, 1, 1), date(2037, 1, 1))
calendars = st.fixed_dictionaries(
    {
        "interval": st.sampled_from(Interval),
        "anchor": st.sampled_from(Anchor),
        "anchored_on": days,
        "zone": zones,
    }
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("name", "day", "midnight"),
    [
        ("UTC", "2026-01-01", "2026-01-01T00:00Z"),
        ("Asia/Tokyo", "2026-01-01", "2025-12-31T15:00Z"),
        ("Asia/Kathmandu", "2026-01-01", "2025-12-31T18:15Z"),
        ("America/Havana", "2024-11-03", "2024-11-03T04:00Z"),  # the first of two
        ("America/St_Johns", "2010-11-07", "2010-11-07T02:30Z"),  # the first of two
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00Z"),  # the jump to 01:00
        ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00Z"),  # the jump to 01:00
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00Z"),  # skipped: begins with the next
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00Z"),
    ],
)
def test_a_day_begins_at_its_first_instant(name: str, day: str, midnight: str) -> None:
    assert period.local_midnight(date.fromisoformat(day), ZoneInfo(name)) == utc(midnight)


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Paris", "2026-03-29", 23),
        ("Europe/Paris", "2026-10-25", 25),
        ("America/Havana", "2024-11-03", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/St_Johns", "2010-11-07", 25),
    ],
)
def test_a_day_is_as_long_as_its_clock_makes_it(name: str, day: str, hours: float) -> None:
    bounds = period.day_bounds(date.fromisoformat(day), ZoneInfo(name))
    assert bounds.end - bounds.start == timedelta(hours=hours)


def test_the_hour_after_clocks_go_back_across_midnight_stays_in_the_new_day() -> None:
    st_johns = ZoneInfo("America/St_Johns")
    at = utc("2010-11-07T02:45Z")
    assert at.astimezone(st_johns).date() == date(2010, 11, 6)
    assert period.local_day(at, st_johns) == date(2010, 11, 7)


def test_a_jump_that_begins_before_midnight_keeps_instant_and_day_consistent() -> None:
    toronto = ZoneInfo("America/Toronto")  # 1919-03-30, from 23:30 to 00:30
    for minute in range(0, 120, 10):
        at = utc("1919-03-31T04:00Z") + timedelta(minutes=minute)
        assert period.day_bounds(period.local_day(at, toronto), toronto).contains(at)


def test_an_instant_without_a_zone_is_refused_everywhere() -> None:
    aware = utc("2026-01-01T00:00Z")
    naive, zone = aware.replace(tzinfo=None), ZoneInfo("UTC")
    calendar: dict[str, Any] = {
        "interval": Interval.day,
        "anchor": Anchor.calendar,
        "anchored_on": date(2026, 1, 1),
        "zone": zone,
    }
    for since, until in ((naive, aware), (aware, naive)):
        with pytest.raises(period.NaiveInstant):
            next(calendar_periods.between(since, until, **calendar))
    with pytest.raises(period.NaiveInstant):
        period.local_day(naive, zone)
    with pytest.raises(period.NaiveInstant):
        expiry.ends_at(naive, unit=ExpiryUnit.days, count=1, zone=zone)


def test_a_skipped_day_has_no_bounds_and_holds_no_instant() -> None:
    apia = ZoneInfo("Pacific/Apia")
    with pytest.raises(period.EmptyPeriod):
        period.day_bounds(date(2011, 12, 30), apia)
    jump = utc("2011-12-30T10:00Z")
    assert period.local_day(jump, apia) == date(2011, 12, 31)
    assert period.local_day(jump - timedelta(microseconds=1), apia) == date(2011, 12, 29)


@given(at=instants, zone=zones)
def test_an_instant_lies_within_the_bounds_of_its_local_day(at: datetime, zone: ZoneInfo) -> None:
    assert period.day_bounds(period.local_day(at, zone), zone).contains(at)


@given(
    at=instants,
    zone=zones,
    moves=st.lists(st.tuples(st.integers(0, 400), zones), min_size=1, max_size=3),
    hours=st.integers(-1200, 1200),
)
def test_who_moves_has_one_day_after_the_other(
    at: datetime, zone: ZoneInfo, moves: list[tuple[int, ZoneInfo]], hours: int
) -> None:
    before, first = zone, at
    for later, to in moves:
        at += timedelta(hours=later)
        moved = period.moved(to, at=at, before=before)
        # What was stays as it was.
        assert period.local_day(first - DAY, moved) == period.local_day(first - DAY, zone)
        before = moved

    asked = first + timedelta(hours=hours)
    day = period.local_day(asked, before)

    assert period.local_midnight(day, before) <= asked < period.local_midnight(day + DAY, before)
    assert period.local_day(asked + DAY, before) >= day
    assert period.zone_of(date.max, before).key == to.key


def test_the_day_of_a_move_is_as_long_as_both_zones_make_it() -> None:
    east, west = ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Pago_Pago")
    noon = utc("2026-02-09T22:00Z")  # of the 10th in the east, 11:00 of the 9th in the west
    away = period.moved(west, at=noon, before=east)
    assert period.local_midnight(date(2026, 2, 10), away) == utc("2026-02-09T10:00Z")
    assert period.local_day(noon, away) == date(2026, 2, 10)
    assert period.local_midnight(date(2026, 2, 11), away) == utc("2026-02-11T11:00Z")

    back = period.moved(east, at=utc("2026-02-20T10:30Z"), before=away)
    # 23:30 of the 19th there, 00:30 of the 21st here: the 20th has no time.
    assert period.local_midnight(date(2026, 2, 20), back) == utc("2026-02-20T10:30Z")
    assert period.local_midnight(date(2026, 2, 21), back) == utc("2026-02-20T10:30Z")
    assert [period.zone_of(date(2026, 2, day), back).key for day in (10, 19, 20)] == [
        east.key,
        west.key,
        east.key,
    ]


@given(day=days, zone=zones)
def test_days_never_begin_before_the_day_before(day: date, zone: ZoneInfo) -> None:
    begins, next_begins = period.local_midnight(day, zone), period.local_midnight(day + DAY, zone)
    assert begins <= next_begins
    if begins < next_begins:
        assert period.local_day(begins, zone) == day
        assert period.local_day(begins - timedelta(microseconds=1), zone) < day


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Mars/Olympus",
        "../etc/passwd",
        "America",
        "localtime",
        "right/UTC",
        "/etc/localtime",
        "\0",
    ],
)
def test_what_is_no_timezone_is_refused_by_name(name: str) -> None:
    with pytest.raises(period.UnknownTimezone, match="unknown timezone"):
        period.zone(name)


def test_a_timezone_is_found_by_its_name() -> None:
    assert period.zone("Europe/Paris").key == "Europe/Paris"


def test_a_period_is_half_open() -> None:
    january = Period(utc("2026-01-01T00:00Z"), utc("2026-02-01T00:00Z"))
    assert january.contains(january.start)
    assert january.contains(january.end - timedelta(microseconds=1))
    assert not january.contains(january.end)
    assert not january.contains(january.start - timedelta(microseconds=1))


def test_a_bound_elsewhere_is_converted_not_relabelled() -> None:
    tokyo = timezone(timedelta(hours=9))
    made = Period(datetime(2026, 1, 1, tzinfo=tokyo), datetime(2026, 1, 2, tzinfo=tokyo))
    assert made.start.isoformat() == "2025-12-31T15:00:00+00:00"
    assert made == Period(utc("2025-12-31T15:00Z"), utc("2026-01-01T15:00Z"))


def test_a_period_that_is_empty_or_naive_is_refused() -> None:
    at = utc("2026-01-01T00:00Z")
    for end in (at, at - DAY):
        with pytest.raises(period.EmptyPeriod, match="end must be after its start"):
            Period(at, end)
    with pytest.raises(period.NaiveInstant, match="no time zone"):
        Period(at.replace(tzinfo=None), at)


@pytest.mark.parametrize(
    "row", vectors.rows("timezone", "days_between_local_dates"), ids=vectors.row_id
)
def test_published_day_counts_across_clock_changes_come_out(row: vectors.Row) -> None:
    zone = period.zone(row["params"]["timezone"])
    start, end = (
        datetime.fromisoformat(row["input"][key].removesuffix(" local")).replace(tzinfo=zone)
        for key in ("from", "to")
    )
    assert Period(start, end).days(zone) == int(row["expected_amount"])


@pytest.mark.parametrize(
    "row", vectors.rows("timezone", "monthly_invoices_across_dst"), ids=vectors.row_id
)
def test_published_month_across_a_clock_change_is_one_period(row: vectors.Row) -> None:
    zone = period.zone(row["params"]["timezone"])
    start, end = (date.fromisoformat(day) for day in row["input"]["period"])
    assert start.day == int(row["params"]["anchor"])
    month = calendar_periods.containing(
        period.local_midnight(start, zone),
        interval=Interval.month,
        anchor=Anchor.anniversary,
        anchored_on=start,
        zone=zone,
    )
    assert month == Period(period.local_midnight(start, zone), period.local_midnight(end, zone))


@pytest.mark.parametrize("row", vectors.rows("boundaries", "period_boundaries"), ids=vectors.row_id)
def test_published_boundaries_come_out(row: vectors.Row) -> None:
    utc_zone = ZoneInfo("UTC")
    published = [
        Period(
            period.local_midnight(date.fromisoformat(first), utc_zone),
            period.local_midnight(date.fromisoformat(last) + DAY, utc_zone),
        )
        for first, last in row["expected"]["periods"]
    ]
    made = calendar_periods.between(
        published[0].start,
        published[-1].end,
        interval=Interval(row["params"]["interval"]),
        anchor=Anchor(row["params"]["billing"]),
        anchored_on=date.fromisoformat(row["params"]["anchor"]),
        zone=utc_zone,
    )
    assert list(made) == published


@pytest.mark.parametrize("row", vectors.rows("boundaries", "next_billing_date"), ids=vectors.row_id)
def test_published_next_billing_dates_come_out(row: vectors.Row) -> None:
    anchor = date.fromisoformat(row["params"]["anchor"])
    moved = calendar_periods.add_months(anchor, row["params"]["months"])
    assert moved == date.fromisoformat(row["expected"]["next"])


INTERVAL_OF = {"weekly": "week", "monthly": "month", "quarterly": "quarter", "yearly": "year"}


@pytest.mark.parametrize(
    "row",
    vectors.rows("billing_clock", "invoices_created_by_repeated_clock_runs"),
    ids=vectors.row_id,
)
def test_published_clock_runs_meet_as_many_first_days_as_invoices(row: vectors.Row) -> None:
    params, zone = row["params"], period.zone(row["params"]["timezone"])
    interval = "month" if params["usage_billed_monthly"] else INTERVAL_OF[params["interval"]]
    anchored_on = period.local_day(utc(row["input"]["subscription_start"]), zone)

    def begun(runs: list[str]) -> set[Period]:
        """The periods on whose first local day one of the runs falls."""
        met = set()
        for run in runs:
            found = calendar_periods.containing(
                utc(run),
                interval=Interval(interval),
                anchor=Anchor(params["billing"]),
                anchored_on=anchored_on,
                zone=zone,
            )
            if period.local_day(utc(run), zone) == period.local_day(found.start, zone):
                met.add(found)
        return met

    assert len(begun(row["input"]["run_on_billing_day"])) == int(row["expected_amount"])
    assert begun(row["input"]["run_before"] + row["input"]["run_after"]) == set()


@pytest.mark.parametrize(
    ("interval", "first", "after"),
    [
        (Interval.day, "2026-08-12", "2026-08-13"),
        (Interval.week, "2026-08-10", "2026-08-17"),
        (Interval.month, "2026-08-01", "2026-09-01"),
        (Interval.quarter, "2026-07-01", "2026-10-01"),
        (Interval.year, "2026-01-01", "2027-01-01"),
    ],
)
def test_calendar_periods_begin_with_the_calendar(
    interval: Interval, first: str, after: str
) -> None:
    paris = ZoneInfo("Europe/Paris")
    found = calendar_periods.containing(
        utc("2026-08-12T09:00Z"),
        interval=interval,
        anchor=Anchor.calendar,
        anchored_on=date(2020, 2, 29),
        zone=paris,
    )
    assert period.local_day(found.start, paris) == date.fromisoformat(first)
    assert period.local_day(found.end, paris) == date.fromisoformat(after)


@pytest.mark.parametrize(
    ("anchored_on", "interval", "starts"),
    [
        ("2025-01-31", Interval.month, ["2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30"]),
        ("2024-02-29", Interval.year, ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28"]),
        ("2024-11-30", Interval.quarter, ["2024-11-30", "2025-02-28", "2025-05-30", "2025-08-30"]),
        ("2025-01-01", Interval.week, ["2025-01-01", "2025-01-08", "2025-01-15", "2025-01-22"]),
    ],
)
def test_anniversaries_are_clamped_from_the_anchor(
    anchored_on: str, interval: Interval, starts: list[str]
) -> None:
    zone = ZoneInfo("UTC")
    made = calendar_periods.between(
        period.local_midnight(date.fromisoformat(starts[0]), zone),
        period.local_midnight(date.fromisoformat(starts[-1]), zone),
        interval=interval,
        anchor=Anchor.anniversary,
        anchored_on=date.fromisoformat(anchored_on),
        zone=zone,
    )
    assert [found.start.date().isoformat() for found in made] == starts[:-1]


@given(at=instants, calendar=calendars)
def test_a_period_holds_the_instant_it_was_asked_for(
    at: datetime, calendar: dict[str, Any]
) -> None:
    found = calendar_periods.containing(at, **calendar)
    assert found.contains(at)
    for inside in (found.start, found.end - timedelta(microseconds=1)):
        assert found == calendar_periods.containing(inside, **calendar)


@given(since=instants, length=st.integers(1, 60), calendar=calendars)
def test_periods_tile_time_without_gap_or_overlap(
    since: datetime, length: int, calendar: dict[str, Any]
) -> None:
    until = since + length * LENGTH[calendar["interval"]] * DAY
    made = list(calendar_periods.between(since, until, **calendar))
    assert made[0].contains(since)
    assert made[-1].contains(until - timedelta(microseconds=1))
    for one, other in pairwise(made):
        assert one.end == other.start
        assert other == calendar_periods.following(one, **calendar)
    zone = calendar["zone"]
    whole = Period(made[0].start, made[-1].end)
    assert sum(one.days(zone) for one in made) == whole.days(zone)


@pytest.mark.parametrize("name", ODD_ZONES)
def test_days_tile_the_years_in_which_the_zone_was_odd(name: str) -> None:
    zone = ZoneInfo(name)
    for year in (1993, 1994, 2010, 2011, 2018, 2024):
        made = list(
            calendar_periods.between(
                period.local_midnight(date(year, 1, 1), zone),
                period.local_midnight(date(year + 1, 1, 1), zone),
                interval=Interval.day,
                anchor=Anchor.calendar,
                anchored_on=date(year, 1, 1),
                zone=zone,
            )
        )
        assert all(one.end == other.start for one, other in pairwise(made))
        assert {found.end - found.start for found in made} <= {
            timedelta(minutes=minutes) for minutes in range(22 * 60, 26 * 60 + 1, 30)
        }
        skipped = {
            ("Pacific/Apia", 2011),
            ("Pacific/Kiritimati", 1994),
            ("Pacific/Kwajalein", 1993),
        }
        whole_year = (date(year + 1, 1, 1) - date(year, 1, 1)).days
        assert len(made) == whole_year - ((name, year) in skipped)


@given(day=days, months=st.integers(-600, 600))
def test_months_are_added_by_the_calendar_and_clamped(day: date, months: int) -> None:
    moved = calendar_periods.add_months(day, months)
    assert (moved.year * 12 + moved.month) - (day.year * 12 + day.month) == months
    assert moved.day == day.day or (moved.day < day.day and (moved + DAY).day == 1)


@pytest.mark.parametrize(
    ("at", "unit", "count", "name", "ends"),
    [
        ("2026-03-28T12:00Z", ExpiryUnit.hours, 24, "Europe/Paris", "2026-03-29T12:00Z"),
        ("2026-03-28T12:00Z", ExpiryUnit.days, 1, "Europe/Paris", "2026-03-29T11:00Z"),
        ("2026-01-31T10:00Z", ExpiryUnit.months, 1, "UTC", "2026-02-28T10:00Z"),
        ("2026-01-31T10:00Z", ExpiryUnit.months, 2, "UTC", "2026-03-31T10:00Z"),
        ("2026-01-31T15:30Z", ExpiryUnit.months, 1, "Asia/Tokyo", "2026-02-28T15:30Z"),
        ("2024-02-29T10:00Z", ExpiryUnit.years, 1, "UTC", "2025-02-28T10:00Z"),
        # 02:30 does not exist on the day the clocks go forward: moved on by the hour they jump
        ("2026-03-28T01:30Z", ExpiryUnit.days, 1, "Europe/Paris", "2026-03-29T01:30Z"),
        # 02:30 comes twice on the day the clocks go back: the first
        ("2026-10-24T00:30Z", ExpiryUnit.days, 1, "Europe/Paris", "2026-10-25T00:30Z"),
    ],
)
def test_credit_expires_by_the_local_calendar(
    at: str, unit: ExpiryUnit, count: int, name: str, ends: str
) -> None:
    assert expiry.ends_at(utc(at), unit=unit, count=count, zone=ZoneInfo(name)) == utc(ends)


def test_what_is_granted_for_ever_does_not_expire() -> None:
    at = utc("2026-01-01T00:00Z")
    assert expiry.ends_at(at, unit=ExpiryUnit.forever, count=1, zone=ZoneInfo("UTC")) is None


@given(
    at=instants,
    unit=st.sampled_from([unit for unit in ExpiryUnit if unit is not ExpiryUnit.forever]),
    count=st.integers(1, 60),
    zone=zones,
)
def test_credit_expires_after_it_was_granted_and_later_for_a_larger_count(
    at: datetime, unit: ExpiryUnit, count: int, zone: ZoneInfo
) -> None:
    ends = expiry.ends_at(at, unit=unit, count=count, zone=zone)
    later = expiry.ends_at(at, unit=unit, count=count + 1, zone=zone)
    assert ends is not None
    assert later is not None
    assert at < ends < later


@pytest.mark.parametrize("unit", [unit for unit in ExpiryUnit if unit is not ExpiryUnit.forever])
@pytest.mark.parametrize("count", [0, -1, 10**9, 10**30])
def test_a_validity_that_makes_no_sense_is_refused(unit: ExpiryUnit, count: int) -> None:
    with pytest.raises(expiry.ExpiryOutOfRange, match="out of range"):
        expiry.ends_at(utc("2026-01-01T00:00Z"), unit=unit, count=count, zone=ZoneInfo("UTC"))

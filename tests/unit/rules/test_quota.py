"""Limits add up, windows begin at local midnight, and what fits is decided to the unit."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import period, quota
from models.rules.period import Period
from models.rules.quota import Decision, Limit, Right, Standing, Window

MONTH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
DAY = Period(datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC))

amounts = st.decimals(0, 10**6, places=3)
rights = st.builds(
    Right,
    window=st.sampled_from(Window),
    limit=st.none() | amounts,
    is_soft=st.booleans(),
    per_seat=st.booleans(),
    quantity=st.decimals(1, 50, places=1),
    plan_key=st.sampled_from(["free", "pro", "team"]),
)


def monthly(limit: str | None, **more: object) -> Right:
    amount = None if limit is None else Decimal(limit)
    return Right(Window.month, amount, **{"plan_key": "pro", **more})


def standing(
    limit: int | None, used: int, *, soft: bool = False, window: Window = Window.month
) -> Standing:
    amount = None if limit is None else Decimal(limit)
    where = MONTH if window is Window.month else DAY
    return Standing(Limit(window, amount, soft), where, Decimal(used))


def test_limits_of_several_plans_add_up() -> None:
    found = quota.limits([monthly("100"), monthly("50.5"), monthly("7", per_seat=True)])

    assert found == [Limit(Window.month, Decimal("157.5"), is_soft=False)]


def test_seats_multiply_a_limit_only_where_it_is_said() -> None:
    per_seat = monthly("100", per_seat=True, quantity=Decimal(7))
    for_all = monthly("100", quantity=Decimal(7))

    assert quota.limits([per_seat])[0].amount == 700
    assert quota.limits([for_all])[0].amount == 100


def test_a_tenants_own_limit_stands_in_for_those_of_plans_in_its_windows_alone() -> None:
    daily = Right(Window.day, Decimal(5), plan_key="pro")
    own = Right(Window.month, Decimal(3))

    assert quota.limits([monthly("100"), own, monthly(None), daily]) == [
        Limit(Window.day, Decimal(5), is_soft=False),
        Limit(Window.month, Decimal(3), is_soft=False),
    ]


def test_without_a_right_there_is_no_limit_and_nothing_is_allowed() -> None:
    assert quota.limits([]) == []
    assert quota.decide([], Decimal(0)) == Decision(False, None, [])


@given(st.lists(rights, max_size=5), rights, amounts, amounts)
def test_another_plan_never_takes_away_what_was_allowed(
    held: list[Right], another: Right, used: Decimal, amount: Decimal
) -> None:
    """Of windows of one length: a limit of another length is one more that must be kept."""
    same = [one for one in held if one.window is another.window]

    def allowed(given: list[Right]) -> bool:
        standings = [Standing(limit, MONTH, used) for limit in quota.limits(given)]
        return quota.decide(standings, amount).allowed

    assert allowed([*same, another]) >= allowed(same)


@given(st.lists(rights, max_size=6))
def test_the_order_of_rights_does_not_matter(held: list[Right]) -> None:
    assert quota.limits(held) == quota.limits(held[::-1])


@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 50), st.integers(-5, 60), st.booleans()), max_size=4
    ),
    st.integers(0, 30),
)
def test_what_is_decided_is_what_each_limit_says(
    given_limits: list[tuple[int | None, int, bool]], amount: int
) -> None:
    standings = [standing(limit, used, soft=soft) for limit, used, soft in given_limits]
    decision = quota.decide(standings, Decimal(amount))

    fits = [limit is None or used + amount <= limit for limit, used, _ in given_limits]
    hard = [not soft for _, _, soft in given_limits]
    refused = any(strict and not fit for strict, fit in zip(hard, fits, strict=True))
    assert decision.allowed == (bool(given_limits) and not refused)
    assert (decision.binding is None) == (not given_limits)
    assert bool(decision.exceeded) == (not all(fits))


def test_a_refusal_names_the_limit_that_resets_last() -> None:
    day, month = standing(5, 5, window=Window.day), standing(9, 9)

    assert quota.decide([day, month], Decimal(1)).binding == month
    assert quota.decide([day, standing(9, 5)], Decimal(1)).binding == day


def test_what_is_allowed_names_the_limit_that_leaves_least() -> None:
    day, month = standing(5, 1, window=Window.day), standing(9, 6)

    assert quota.decide([day, month], Decimal(1)).binding == month
    assert quota.decide([standing(None, 6), day], Decimal(1)).binding == day


def test_a_soft_limit_allows_and_is_named_as_exceeded() -> None:
    soft = standing(5, 5, soft=True)

    assert quota.decide([soft], Decimal(1)) == Decision(True, soft, [soft])
    assert quota.decide([soft], Decimal(0)).exceeded == []


def test_remaining_is_never_below_zero() -> None:
    assert standing(5, 7).remaining == 0
    assert standing(5, -2).remaining == 7
    assert standing(None, 7).remaining is None


@pytest.mark.parametrize(
    ("zone", "at", "window", "start", "end"),
    [
        # A quarter to six ahead: the day begins at 18:15 UTC.
        ("Asia/Kathmandu", "2026-03-10T18:14:59.999999", "day", "2026-03-09T18:15", "+24"),
        ("Asia/Kathmandu", "2026-03-10T18:15:00", "day", "2026-03-10T18:15", "+24"),
        ("Asia/Kathmandu", "2026-03-31T18:15:00", "month", "2026-03-31T18:15", "+720"),
        # Fourteen hours ahead: the first zone in which a day begins.
        ("Pacific/Kiritimati", "2026-01-31T10:00:00", "month", "2026-01-31T10:00", "+672"),
        ("Pacific/Kiritimati", "2026-01-31T09:59:59", "day", "2026-01-30T10:00", "+24"),
        # Eleven behind.
        ("Pacific/Pago_Pago", "2026-03-01T10:59:59", "month", "2026-02-01T11:00", "+672"),
        # Clocks go forward, back, and back across midnight.
        ("Europe/Berlin", "2026-03-29T12:00:00", "day", "2026-03-28T23:00", "+23"),
        ("Europe/Berlin", "2026-10-25T22:59:59", "day", "2026-10-24T22:00", "+25"),
        ("Europe/Berlin", "2026-03-29T12:00:00", "month", "2026-02-28T23:00", "+743"),
        ("America/Havana", "2026-11-01T04:30:00", "day", "2026-11-01T04:00", "+25"),
        # Midnight does not exist: the day begins at the jump.
        ("America/Santiago", "2026-09-06T04:00:00", "day", "2026-09-06T04:00", "+23"),
        # A day that was left out: the one before it is followed by the one after it.
        ("Pacific/Apia", "2011-12-30T09:59:59", "day", "2011-12-29T10:00", "+24"),
        ("Pacific/Apia", "2011-12-30T10:00:00", "day", "2011-12-30T10:00", "+24"),
        ("Pacific/Apia", "2011-12-30T10:00:00", "month", "2011-12-01T10:00", "+720"),
        # The end of a short month, and of a leap year's.
        ("UTC", "2028-02-29T23:59:59.999999", "month", "2028-02-01T00:00", "+696"),
        ("UTC", "2026-02-28T23:59:59.999999", "month", "2026-02-01T00:00", "+672"),
    ],
)
def test_a_window_is_a_local_day_or_a_local_month(
    zone: str, at: str, window: str, start: str, end: str
) -> None:
    begins = datetime.fromisoformat(start).replace(tzinfo=UTC)

    found = quota.window_at(
        datetime.fromisoformat(at).replace(tzinfo=UTC), Window(window), ZoneInfo(zone)
    )

    assert found == Period(begins, begins + timedelta(hours=int(end)))


def test_every_day_of_every_zone_begins_with_a_quarter_of_an_hour() -> None:
    """What arrives is put down by the quarter: none may lie in two windows. It is so since 1980."""
    places = [name for name in available_timezones() if _is_place(name)]
    days = [date(year, month, 1) for year in range(1980, 2040) for month in (1, 4, 7, 10)]

    assert len(places) > 400
    assert not [
        (name, day)
        for name in places
        for day in days
        if period.local_midnight(day, ZoneInfo(name)).timestamp() % 900
    ]


def _is_place(name: str) -> bool:
    try:
        period.zone(name)
    except period.UnknownTimezone:
        return False
    return True

"""Fees that are shared out by the second: no second is left out, none is charged twice."""

import datetime as dt
import itertools
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import ahead, billing, pricing, seconds
from models.rules.billing import Cycle, Days, PriceVersion, Seats, Subscription
from models.rules.period import Anchor, Interval
from models.rules.proration import Proration
from models.rules.seconds import Seconds

PARIS = ZoneInfo("Europe/Paris")
YEAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

instants = st.datetimes(
    dt.datetime(2026, 1, 1),  # noqa: DTZ001 (hypothesis wants it so)
    dt.datetime(2026, 6, 1),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)
amounts = st.decimals(0, 10_000, places=2)
prorations = st.sampled_from(Proration)


def price(amount: Decimal, *, kind: str = billing.FIXED, **more: object) -> PriceVersion:
    given: dict[str, object] = {"effective_at": None, "ended_at": None, **more}
    return PriceVersion(
        UUID(int=int(amount * 100) + 1),
        "pro",
        "base",
        "USD",
        None,
        pricing.read(pricing.Model.fixed, {"unit_price": amount}),
        None,
        kind=kind,
        **given,
    )


def subscription(
    start: dt.datetime,
    end: dt.datetime | None,
    proration: Proration = Proration.second,
    seats: Sequence[Seats] = (),
    number: int = 1,
) -> Subscription:
    return Subscription(
        id=UUID(int=number),
        tenant_id="acme",
        plan_key="pro",
        currency="USD",
        quantity=Decimal(1),
        effective_at=start,
        ended_at=end,
        cycle=Cycle(Interval.month, Anchor.calendar, dt.date(2026, 1, 1)),
        seats=tuple(seats),
        proration=proration,
    )


def charged(one: Subscription, versions: Sequence[PriceVersion]) -> list[billing.Charge]:
    return [
        charge
        for days in billing.unbilled(one, PARIS)
        for charge in billing.charges([one], {("pro", "USD"): versions}, days=days, zone=PARIS)
    ]


@given(st.lists(instants, min_size=2, max_size=6, unique=True), st.lists(instants, max_size=3))
def test_parts_follow_one_another_to_the_second(
    bounds: list[dt.datetime], raised: list[dt.datetime]
) -> None:
    """Whoever replaces whom, whatever is raised and whoever comes in between."""
    bounds, changes = sorted(bounds), sorted(set(raised))
    edges = [None, *changes, None]
    versions = [
        price(Decimal(number), effective_at=since, ended_at=until)
        for number, (since, until) in enumerate(itertools.pairwise(edges), start=1)
    ]
    seats = [Seats(at, Decimal(2)) for at in bounds[1:-1:2]]
    parts = sorted(
        charge.part
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
        for charge in charged(
            subscription(
                start,
                end,
                seats=[one for one in seats if start < one.effective_at < end],
                number=number,
            ),
            versions,
        )
    )
    whole = seconds.between(bounds[0], bounds[-1])
    assert sum(map(len, parts)) == len(whole)
    for before, after in itertools.pairwise(parts):
        assert before.after == after.first
    if whole:
        assert (parts[0].first, parts[-1].after) == (whole.first, whole.after)


@given(amounts, instants, instants, prorations)
def test_what_is_given_back_and_what_was_used_are_the_whole_fee(
    amount: Decimal, start: dt.datetime, end: dt.datetime, proration: Proration
) -> None:
    """Paid ahead for a period, and ended within it: to the minor unit, the used part in arrears and
    what is given back of the part ahead are the fee for all that was paid."""
    start, end = sorted((start, end))
    days = subscription(start, None).cycle.containing(start.astimezone(PARIS).date(), PARIS)
    end = min(end, billing.midnight(days.after, PARIS))
    left, gone = (subscription(start, until, proration) for until in (None, end))

    fee = price(amount, ahead=True)
    (paid,) = ahead.owed(left, [fee], days, PARIS)
    owed = sum(one.line.amount_minor for one in ahead.owed(gone, [fee], days, PARIS))
    used = charged(gone, [price(amount)]) if start < end else []
    in_arrears = sum(billing.line(one, pricing.NOTHING).amount_minor for one in used)

    assert (paid.line.amount_minor - owed) + in_arrears == paid.line.amount_minor
    assert 0 <= owed <= paid.line.amount_minor


@pytest.mark.parametrize("order", [1, -1])
def test_of_prices_that_come_within_a_period_the_first_one_is_charged_ahead(order: int) -> None:
    days = Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1))
    first_at, later_at = (dt.datetime(2026, 1, day, 12, tzinfo=dt.UTC) for day in (11, 21))
    first = price(Decimal(31), ahead=True, effective_at=first_at, ended_at=later_at)
    later = price(Decimal(62), ahead=True, effective_at=later_at)
    since_new_year = subscription(YEAR - dt.timedelta(hours=1), None, Proration.day)

    found = billing.charged_ahead(since_new_year, [first, later][::order], days, PARIS)

    assert found == {"base": (first, Days(dt.date(2026, 1, 11), days.after))}


def test_a_price_that_was_over_when_somebody_came_that_day_is_not_charged_ahead() -> None:
    came, noon = (dt.datetime(2026, 1, 11, hour, tzinfo=dt.UTC) for hour in (15, 12))
    morning = price(Decimal(31), ahead=True, effective_at=YEAR, ended_at=noon)
    early = price(Decimal(31), ahead=True, effective_at=noon - dt.timedelta(hours=3), ended_at=noon)
    after = price(Decimal(62), ahead=True, effective_at=noon)
    one = subscription(came, None, Proration.day)
    days = Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1))

    for before in (morning, early):
        found = billing.charged_ahead(one, [before, after], days, PARIS)
        assert found == {"base": (after, Days(dt.date(2026, 1, 11), days.after))}


@given(amounts, st.lists(instants, max_size=4), instants)
def test_seats_paid_ahead_cost_what_each_second_of_each_seat_costs(
    amount: Decimal, changes: list[dt.datetime], end: dt.datetime
) -> None:
    month = subscription(YEAR, None).cycle.containing(end.astimezone(PARIS).date(), PARIS)
    begin, over = (billing.midnight(day, PARIS) for day in (month.first, month.after))
    seats = [
        Seats(at, Decimal(1 + number % 3))
        for number, at in enumerate(sorted(changes))
        if begin < at < end
    ]
    one = subscription(begin, end, seats=seats)

    lines = [each.line for each in ahead.owed(one, [price(amount, ahead=True)], month, PARIS)]

    part = seconds.between(begin, end)
    exact = sum(
        (
            Fraction(amount) * 100 * Fraction(held.quantity)
            * Fraction(len(run), len(seconds.between(begin, over)))
            for run, held in one.runs(part, PARIS)
        ),
        Fraction(0),
    )  # fmt: skip
    rounded = sum(line.amount_minor for line in lines)
    assert abs(rounded - exact) <= Fraction(len(lines), 2)


@pytest.mark.parametrize(
    ("first", "hours", "whole"),
    [("2026-03-29", 23, 743), ("2026-10-25", 25, 745), ("2026-01-10", 24, 744)],
)
def test_days_of_23_and_25_hours_are_as_long_as_they_are(
    first: str, hours: int, whole: int
) -> None:
    day = Days(dt.date.fromisoformat(first), dt.date.fromisoformat(first) + dt.timedelta(days=1))
    start, end = (billing.midnight(each, PARIS) for each in (day.first, day.after))
    (charge,) = charged(subscription(start, end), [price(Decimal(1))])
    assert charge.share == Fraction(hours, whole)


@given(instants, instants)
def test_seconds_and_the_days_they_touch_are_told_alike(
    start: dt.datetime, end: dt.datetime
) -> None:
    start, end = sorted((start, end))
    one = subscription(start, end)
    part = one.charged(PARIS, Proration.second)
    assert isinstance(part, Seconds)
    days = one.billed_days(PARIS)
    inside = [at for at in (part.first, part.after - dt.timedelta(seconds=1)) if part]
    assert all(days.first <= at.astimezone(PARIS).date() < days.after for at in inside)
    assert bool(days) == bool(part)
    if part:
        assert billing.midnight(days.first, PARIS) <= part.first
        assert part.after <= billing.midnight(days.after, PARIS)


@pytest.mark.parametrize(
    ("last", "day_after"),
    [
        ("2026-01-09T22:59:59", dt.date(2026, 1, 10)),
        ("2026-01-09T23:00:00", dt.date(2026, 1, 10)),
        ("2026-01-09T23:00:01", dt.date(2026, 1, 11)),
    ],
)
def test_a_day_is_touched_by_the_seconds_before_its_end_only(last: str, day_after: dt.date) -> None:
    """The midnight of Paris is at 23:00 UTC."""
    end = dt.datetime.fromisoformat(last).replace(tzinfo=dt.UTC)

    part = Seconds(end - dt.timedelta(hours=3), end)

    assert part.day_after(PARIS) == day_after


def test_a_microsecond_on_the_way_is_charged_by_neither_twice() -> None:
    at = dt.datetime(2026, 1, 16, 12, 0, 0, 700_000, dt.UTC)
    before, after = subscription(YEAR, at), subscription(at, None, number=2)
    (old,) = charged(before, [price(Decimal(31))])
    new = next(iter(billing.charges([after], {("pro", "USD"): [price(Decimal(31))]},
                                    days=old.whole, zone=PARIS)))  # fmt: skip
    assert old.part.after == new.part.first == at.replace(microsecond=0)


def test_usage_stays_counted_by_days() -> None:
    calls = PriceVersion(
        UUID(int=9), "pro", "calls", "USD", "calls",
        pricing.read(pricing.Model.per_unit, {"unit_price": Decimal(1)}), None, None, None,
        kind=billing.USAGE,
    )  # fmt: skip
    at = dt.datetime(2026, 1, 16, 12, tzinfo=dt.UTC)
    (before,) = charged(subscription(dt.datetime(2026, 1, 1, 5, tzinfo=dt.UTC), at), [calls])
    (after,) = charged(subscription(at, dt.datetime(2026, 1, 20, 1, tzinfo=dt.UTC)), [calls])
    assert before.days == Days(dt.date(2026, 1, 1), dt.date(2026, 1, 16))
    assert after.days == Days(dt.date(2026, 1, 16), dt.date(2026, 1, 20))

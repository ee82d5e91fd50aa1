"""Periods tile, days are conserved, lines add up."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from itertools import islice, pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import billing, period, pricing
from models.rules.billing import Cycle, Days, PriceVersion, Subscription
from models.rules.period import Anchor, Interval

ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Asia/Kathmandu", "America/Los_Angeles", "Europe/Paris", "Pacific/Apia")
]
zones = st.sampled_from(ZONES)
instants = st.datetimes(
    min_value=dt.datetime(2020, 1, 1),  # noqa: DTZ001 (the strategy adds the zone)
    max_value=dt.datetime(2029, 12, 31),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)
cycles = st.tuples(st.sampled_from(Interval), st.sampled_from(Anchor))


def subscription(
    start: dt.datetime,
    end: dt.datetime | None = None,
    *,
    rhythm: tuple[Interval, Anchor] = (Interval.month, Anchor.calendar),
    zone: ZoneInfo = ZONES[0],
    quantity: str = "1",
) -> Subscription:
    return Subscription(
        id=UUID(int=1),
        tenant_id="acme",
        plan_key="pro",
        currency="USD",
        quantity=Decimal(quantity),
        effective_at=start,
        ended_at=end,
        cycle=Cycle(*rhythm, anchored_on=period.local_day(start, zone)),
    )


def fee(start: dt.datetime | None, end: dt.datetime | None, amount: str = "31") -> PriceVersion:
    return PriceVersion(
        id=UUID(int=2),
        plan_key="pro",
        price_key="base",
        currency="USD",
        metric=None,
        price=pricing.read(pricing.Model.fixed, {"unit_price": amount}),
        description=None,
        effective_at=start,
        ended_at=end,
    )


@given(start=instants, rhythm=cycles, zone=zones)
def test_billing_periods_follow_one_another_without_gap(
    start: dt.datetime, rhythm: tuple[Interval, Anchor], zone: ZoneInfo
) -> None:
    one = subscription(start, rhythm=rhythm, zone=zone)

    periods = list(islice(billing.unbilled(one, zone), 15))

    assert all(earlier.after == later.first for earlier, later in pairwise(periods))
    assert periods[0].first <= period.local_day(start, zone) < periods[0].after
    assert all(one.is_billed_for(days, zone) for days in periods)


@given(start=instants, days=st.integers(1, 900), rhythm=cycles, zone=zones)
def test_the_charged_days_of_all_periods_are_the_days_of_the_subscription(
    start: dt.datetime, days: int, rhythm: tuple[Interval, Anchor], zone: ZoneInfo
) -> None:
    one = subscription(start, start + dt.timedelta(days=days), rhythm=rhythm, zone=zone)
    versions = {("pro", "USD"): [fee(None, None)]}

    charged = [
        charge
        for whole in billing.unbilled(one, zone)
        for charge in billing.charges([one], versions, days=whole, zone=zone)
    ]

    assert sum(len(charge.days) for charge in charged) == len(one.days(zone))
    assert all(earlier.period.end == later.period.start for earlier, later in pairwise(charged))


@given(cuts=st.lists(instants, min_size=1, max_size=6, unique=True), zone=zones)
def test_versions_of_a_price_share_a_period_without_overlap(
    cuts: list[dt.datetime], zone: ZoneInfo
) -> None:
    bounds = [None, *sorted(cuts), None]
    versions = {("pro", "USD"): [fee(start, end) for start, end in pairwise(bounds)]}
    one = subscription(
        dt.datetime(2019, 1, 1, tzinfo=dt.UTC), rhythm=(Interval.year, Anchor.calendar)
    )
    whole = Days(dt.date(2025, 1, 1), dt.date(2026, 1, 1))

    charged = billing.charges([one], versions, days=whole, zone=zone)

    assert sum(len(charge.days) for charge in charged) == 365


@pytest.mark.parametrize(
    ("seats", "share", "amount_minor"),
    [("1", (1, 1), 3100), ("3", (1, 1), 9300), ("1", (11, 31), 1100), ("2.5", (1, 31), 250)],
)
def test_a_fee_is_seats_times_amount_times_share(
    seats: str, share: tuple[int, int], amount_minor: int
) -> None:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    end = start + dt.timedelta(days=share[0] if share[1] > 1 else 31)
    one = subscription(start, end, quantity=seats)
    whole = Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1))
    (charge,) = billing.charges(
        [one], {("pro", "USD"): [fee(None, None)]}, days=whole, zone=ZONES[0]
    )

    line = billing.line(charge, pricing.NOTHING)

    assert line.amount_minor == amount_minor
    assert line.details["days"] == (share[0] if share[1] > 1 else 31)


def test_a_subscription_that_begins_and_ends_in_one_day_is_never_due() -> None:
    morning = dt.datetime(2026, 1, 5, 8, tzinfo=dt.UTC)
    one = subscription(morning, morning + dt.timedelta(hours=4))

    assert billing.due_at(one, ZONES[0]) is None


def elapsed_in(days: Days, zone: ZoneInfo) -> dt.timedelta:
    return billing.midnight(days.after, zone) - billing.midnight(days.first, zone)


@given(
    start=instants,
    trial=st.none() | st.integers(1, 90),
    changes=st.lists(st.tuples(st.integers(0, 200 * 86_400), cycles), max_size=3),
    first=cycles,
    zone=zones,
)
def test_every_day_of_a_chain_of_plans_is_charged_once_and_setup_at_most_once(
    start: dt.datetime,
    trial: int | None,
    changes: list[tuple[int, tuple[Interval, Anchor]]],
    first: tuple[Interval, Anchor],
    zone: ZoneInfo,
) -> None:
    one = subscription(start, rhythm=first, zone=zone)
    if trial is not None:
        after = period.local_day(start, zone) + dt.timedelta(days=trial)
        one = replace(one, trial_ends_at=billing.midnight(after, zone))
    chain = [one]
    at = start
    for number, (seconds, rhythm) in enumerate(changes, start=2):
        at += dt.timedelta(seconds=seconds + 1)
        wanted = replace(subscription(at, rhythm=rhythm, zone=zone), id=UUID(int=number))
        follower = billing.replacement(chain[-1], wanted, at, zone)
        chain[-1] = replace(chain[-1], ended_at=at)
        chain.append(follower)
    end = at + dt.timedelta(days=100)
    chain[-1] = replace(chain[-1], ended_at=end)
    versions = {("pro", "USD"): [fee(None, None), replace(fee(None, None, "9"), kind="setup")]}

    charged = [
        charge
        for each in chain
        for days in billing.unbilled(each, zone)
        for charge in billing.charges([each], versions, days=days, zone=zone)
    ]

    spans = sorted(charge.days for charge in charged if charge.version.kind == "fixed")
    for before, following in pairwise(spans):
        assert before.after <= following.first
    # In instants: a day that a zone skipped has no time to be charged for.
    whole = Days(chain[0].charged_days(zone).first, billing.days_between(start, end, zone).after)
    assert sum((elapsed_in(span, zone) for span in spans), dt.timedelta()) == max(
        dt.timedelta(), elapsed_in(whole, zone)
    )
    assert sum(charge.version.kind == "setup" for charge in charged) == bool(spans)

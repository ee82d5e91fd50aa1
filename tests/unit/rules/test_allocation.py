"""Plans' credit: periods without a gap, shares, ends, and what is carried on."""

import datetime as dt
from decimal import Decimal
from itertools import islice, pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.rules import allocation, billing, period
from models.rules.allocation import InvalidTerms, Rollover, Terms, Version
from models.rules.billing import Cycle, Days, Subscription
from models.rules.period import Anchor, Interval

NOBODY = UUID(int=0)
ZONES = st.sampled_from(["UTC", "Asia/Tokyo", "America/St_Johns", "Africa/Cairo"]).map(ZoneInfo)
INSTANTS = st.integers(0, 10 * 366 * 86_400).map(
    lambda seconds: dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
)
AMOUNTS = st.decimals(min_value="0.001", max_value=10**9, places=3)
UNITS = st.decimals(min_value=0, max_value=10**9, places=3)


def subscription(
    effective_at: dt.datetime,
    zone: ZoneInfo,
    ended_at: dt.datetime | None = None,
    interval: Interval = Interval.month,
    anchor: Anchor = Anchor.calendar,
) -> Subscription:
    anchored_on = period.local_day(effective_at, zone)
    return Subscription(
        id=NOBODY,
        tenant_id="acme",
        plan_key="pro",
        currency="USD",
        quantity=Decimal(1),
        effective_at=effective_at,
        ended_at=ended_at,
        cycle=Cycle(interval, anchor, anchored_on),
    )


@given(INSTANTS, ZONES, st.sampled_from(Interval), st.sampled_from(Anchor), st.integers(1, 900))
def test_slots_follow_one_another_from_the_beginning_to_the_end(
    effective_at: dt.datetime, zone: ZoneInfo, interval: Interval, anchor: Anchor, days: int
) -> None:
    one = subscription(effective_at, zone, effective_at + dt.timedelta(days=days), interval, anchor)

    slots = list(allocation.slots(one, zone, since=None))

    assert slots[0].starts_at == effective_at
    assert slots[0].days.first <= period.local_day(effective_at, zone) < slots[0].days.after
    for before, after in pairwise(slots):
        assert before.days.after == after.days.first
        assert after.starts_at == billing.midnight(after.days.first, zone)
    assert slots[-1].days.first < one.days(zone).after <= slots[-1].days.after


@given(INSTANTS, ZONES, st.integers(0, 20))
def test_slots_go_on_where_they_were_left(
    effective_at: dt.datetime, zone: ZoneInfo, done: int
) -> None:
    one = subscription(effective_at, zone)
    slots = list(islice(allocation.slots(one, zone, since=None), 25))
    since = slots[done].days.first

    assert next(allocation.slots(one, zone, since=since)) == slots[done]


@given(INSTANTS, ZONES, AMOUNTS, st.booleans())
def test_a_first_period_gives_no_more_than_the_limit_and_the_others_all_of_it(
    effective_at: dt.datetime, zone: ZoneInfo, limit: Decimal, prorate: bool
) -> None:
    one = subscription(effective_at, zone)
    first, second = islice(allocation.slots(one, zone, since=None), 2)
    terms = Terms("CALLS", limit, prorate_first=prorate)

    amount = allocation.amount(terms, first, one, zone)

    assert 0 <= amount <= limit
    assert allocation.amount(terms, second, one, zone) == limit
    begins_it = period.local_day(effective_at, zone) == first.days.first
    if begins_it or not prorate:
        assert amount == limit
    share = Decimal((first.days.after - period.local_day(effective_at, zone)).days)
    # No further from the exact share than half a unit of the limit's last decimal.
    if prorate:
        exact = limit * share / len(first.days)
        assert abs(amount - exact) <= Decimal("0.5000001") * Decimal(10) ** exponent(limit)


def exponent(value: Decimal) -> int:
    found = value.normalize().as_tuple().exponent
    return min(0, found) if isinstance(found, int) else 0


@given(INSTANTS, ZONES, st.integers(1, 400), st.one_of(st.none(), st.integers(1, 400)))
def test_credit_ends_after_it_begins_and_by_its_rule(
    effective_at: dt.datetime, zone: ZoneInfo, validity: int, lasts: int | None
) -> None:
    ended_at = None if lasts is None else effective_at + dt.timedelta(days=lasts)
    one = subscription(effective_at, zone, ended_at)
    for slot in islice(allocation.slots(one, zone, since=None), 3):
        of_its_own = allocation.expires_at(
            Terms("CALLS", Decimal(1), validity_days=validity), slot, one, zone
        )
        with_period = allocation.expires_at(Terms("CALLS", Decimal(1)), slot, one, zone)
        first = period.local_day(slot.starts_at, zone)
        assert period.local_day(of_its_own, zone) == first + dt.timedelta(days=validity)
        assert slot.starts_at < of_its_own
        assert slot.starts_at < with_period
        assert with_period <= billing.midnight(slot.days.after, zone)
        assert ended_at is None or with_period <= ended_at


@given(UNITS, AMOUNTS)
def test_no_more_is_carried_on_than_was_left_and_than_the_cap(rest: Decimal, cap: Decimal) -> None:
    def carried(rollover: Rollover, most: Decimal | None = None) -> Decimal:
        return allocation.carried(Terms("CALLS", Decimal(1), rollover=rollover, cap=most), rest)

    assert carried(Rollover.none) == 0
    assert carried(Rollover.all) == rest
    assert carried(Rollover.capped, cap) == min(rest, cap)


@pytest.mark.parametrize(
    "terms",
    [
        {"rollover": Rollover.capped},
        {"rollover": Rollover.none, "cap": Decimal(1)},
        {"rollover": Rollover.all, "validity_days": 1},
    ],
)
def test_terms_that_contradict_one_another_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidTerms, match="'CALLS'"):
        Terms("CALLS", Decimal(1), **terms)


@given(INSTANTS, INSTANTS, INSTANTS)
def test_one_version_of_terms_is_in_force_at_any_instant(
    changed_at: dt.datetime, ended_at: dt.datetime, at: dt.datetime
) -> None:
    assume(changed_at < ended_at)
    old, new = Terms("CALLS", Decimal(1)), Terms("CALLS", Decimal(2))
    versions = [
        Version(UUID(int=1), old, None, changed_at),
        Version(UUID(int=2), new, changed_at, ended_at),
        Version(UUID(int=3), Terms("ACCESS", Decimal(1)), None, None),
    ]

    found = [version.terms for version in allocation.versions_at(versions, at)]

    wanted = old if at < changed_at else new
    counted = [] if at >= ended_at else [wanted]
    assert found == [Terms("ACCESS", Decimal(1)), *counted]


def test_a_share_is_rounded_half_up_to_the_decimals_of_the_limit() -> None:
    zone = ZoneInfo("UTC")
    one = subscription(dt.datetime(2026, 2, 15, tzinfo=dt.UTC), zone)
    (slot,) = islice(allocation.slots(one, zone, since=None), 1)
    assert slot.days == Days(dt.date(2026, 2, 1), dt.date(2026, 3, 1))

    for limit, share in (("101", "51"), ("1.01", "0.51"), ("1E+2", "50"), ("0.01", "0.01")):
        terms = Terms("CALLS", Decimal(limit), prorate_first=True)
        assert allocation.amount(terms, slot, one, zone) == Decimal(share)

"""Shares of a period and what they cost, against published figures."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import calendar_periods, money, period, proration
from models.rules.period import Anchor, Interval, Period
from tests.unit.rules import vectors

UTC_ZONE = ZoneInfo("UTC")
DAY = timedelta(days=1)
AS_TERMINATED = ("termination_in_advance", "termination_same_day")
AS_CHANGED = ("proration_add_item", "proration_remove_item", "proration_quantity")


def midnight(text: str) -> datetime:
    return period.local_midnight(date.fromisoformat(text), UTC_ZONE)


def month_of(at: datetime, zone: ZoneInfo = UTC_ZONE, cycle_day: int = 1) -> Period:
    return calendar_periods.containing(
        at,
        interval=Interval.month,
        anchor=Anchor.anniversary,
        anchored_on=date(2011, 1, cycle_day),
        zone=zone,
    )


def share_left(change: datetime, full: Period) -> Fraction:
    return proration.by_days(used=Period(change, full.end), full=full, zone=UTC_ZONE)


def published(row: vectors.Row) -> int:
    return money.to_minor(Decimal(row["expected_amount"]), row["currency"])


@pytest.mark.parametrize("row", vectors.rows("proration", "proration_fraction"), ids=vectors.row_id)
def test_published_fractions_come_out(row: vectors.Row) -> None:
    start = midnight(row["input"]["start"])
    end = midnight(row["input"].get("end") or row["input"]["first_billing_day"])
    full = month_of(start, cycle_day=row["params"]["billing_cycle_day"])
    share = proration.by_days(used=Period(start, end), full=full, zone=UTC_ZONE)
    assert share == Fraction(row["expected"]["fraction"])


@pytest.mark.parametrize("row", vectors.rows("proration", "proration_upgrade"), ids=vectors.row_id)
def test_published_upgrades_credit_the_old_and_charge_the_new_price(row: vectors.Row) -> None:
    params, currency = row["params"], row["currency"]
    share = upgrade_share(row)
    credit = proration.prorate(-Decimal(params["old_price"]), share, currency)
    debit = proration.prorate(Decimal(params["new_price"]), share, currency)
    assert credit == money.to_minor(Decimal(row["expected"]["credit"]), currency)
    assert debit == money.to_minor(Decimal(row["expected"]["debit"]), currency)
    assert credit + debit == published(row)


def upgrade_share(row: vectors.Row) -> Fraction:
    if "remaining_fraction" in row["params"]:
        return Fraction(row["params"]["remaining_fraction"])
    full = Period(*(midnight(day) for day in row["input"]["period"]))
    left = Period(midnight(row["input"]["change"]), full.end)
    if "days_left" in row["params"]:
        return proration.by_days(used=left, full=full, zone=UTC_ZONE)
    return proration.by_seconds(used=left, full=full)


@pytest.mark.parametrize("row", vectors.rows("proration", "upgrade_in_advance"), ids=vectors.row_id)
def test_published_day_of_change_belongs_to_the_new_plan(row: vectors.Row) -> None:
    params, change = row["params"], datetime.fromisoformat(row["input"]["change"])
    full = month_of(change)
    assert full.days(UTC_ZONE) == params["days_in_period"]
    left = share_left(change, full)
    credit = proration.prorate(Decimal(params["old"]), left, row["currency"])
    charge = proration.prorate(Decimal(params["new"]), left, row["currency"])
    assert credit == money.to_minor(Decimal(row["expected"]["credit"]), row["currency"])
    assert charge == money.to_minor(Decimal(row["expected"]["new_charge"]), row["currency"])
    assert charge - credit == published(row)


@pytest.mark.parametrize("row", vectors.rows("proration", *AS_CHANGED), ids=vectors.row_id)
def test_published_changes_of_items_in_mid_period_come_out(row: vectors.Row) -> None:
    params, change = row["params"], midnight(row["input"]["change"])
    share = share_left(change, month_of(change))
    assert share == Fraction(params["days_left"], params["days_in_period"])
    assert proration.prorate(changed_amount(row), share, row["currency"]) == published(row)


def changed_amount(row: vectors.Row) -> Decimal:
    params = row["params"]
    if row["model"] == "proration_quantity":
        return Decimal(params["unit_price"]) * Decimal(params["to"] - params["from"])
    price = Decimal(params["price"])
    return -price if row["model"] == "proration_remove_item" else price


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "proration_change_qty_and_price"), ids=vectors.row_id
)
def test_a_published_change_of_price_and_quantity_at_once_comes_out(row: vectors.Row) -> None:
    params, change = row["params"], midnight(row["input"]["change"])
    share = share_left(change, month_of(change))
    assert share == Fraction(params["days_left"], params["days_in_period"])
    found = {}
    for name, side, sign in (("credit", "old", -1), ("debit", "new", 1)):
        seats, price = params[side].split(" x ")
        amount = sign * Decimal(seats) * Decimal(price)
        found[name] = proration.prorate(amount, share, row["currency"])
        wanted = Decimal(row["expected"][name])
        assert found[name] == money.to_minor(wanted, row["currency"])
    assert sum(found.values()) == published(row)


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "proration_day_count_conventions"), ids=vectors.row_id
)
def test_published_days_are_counted_as_they_are(row: vectors.Row) -> None:
    """Of the three conventions ours is the first; months of 30 days are not on offer."""
    used = Period(midnight(row["input"]["from"]), midnight(row["input"]["to_inclusive"]) + DAY)
    share = proration.by_days(used=used, full=month_of(used.start), zone=UTC_ZONE)
    assert share == Fraction(row["expected"]["actual"])


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "partial_plus_full_month"), ids=vectors.row_id
)
def test_a_published_first_part_and_the_month_after_it_come_out(row: vectors.Row) -> None:
    """Two invoices of ours: each period is rounded by itself."""
    params = row["params"]
    start, target = (midnight(row["input"][name]) for name in ("start", "target"))
    total = 0
    while start <= target:
        full = month_of(start, cycle_day=params["anchor_day"])
        share = proration.by_days(used=Period(start, full.end), full=full, zone=UTC_ZONE)
        total += proration.prorate(Decimal(params["monthly_price"]), share, row["currency"])
        start = full.end
    assert total == published(row)


@pytest.mark.parametrize("row", vectors.rows("proration", *AS_TERMINATED), ids=vectors.row_id)
def test_published_terminations_give_back_the_days_after_the_last(row: vectors.Row) -> None:
    terminated = datetime.fromisoformat(row["input"]["terminated"])
    full = month_of(terminated)
    next_day = period.local_day(terminated, UTC_ZONE) + DAY
    share = share_left(period.local_midnight(next_day, UTC_ZONE), full)
    assert share == Fraction(row["params"]["unused_days"], row["params"]["days_in_period"])
    assert proration.prorate(Decimal(row["params"]["price"]), share, "EUR") == published(row)


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "annual_cancel_credit"), ids=vectors.row_id
)
def test_published_credit_for_the_rest_of_a_year_comes_out(row: vectors.Row) -> None:
    full = Period(*(midnight(day) for day in row["input"]["period"]))
    share = share_left(midnight(row["input"]["cancel"]), full)
    assert share == Fraction(row["params"]["days_left"], row["params"]["days_in_period"])
    credit = proration.prorate(-Decimal(row["params"]["price"]), share, row["currency"])
    assert credit == published(row)


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "trial_then_proration"), ids=vectors.row_id
)
def test_published_first_month_after_a_trial_comes_out(row: vectors.Row) -> None:
    trial_end = midnight(row["input"]["trial_end"])
    share = share_left(trial_end, month_of(trial_end))
    price = Decimal(row["params"]["monthly_price"])
    assert proration.prorate(price, share, row["currency"]) == published(row)


@pytest.mark.parametrize("row", vectors.rows("proration", "proration_days"), ids=vectors.row_id)
def test_published_days_used_come_out(row: vectors.Row) -> None:
    used = Period(midnight(row["input"]["start"]), midnight(row["input"]["end"]) + DAY)
    share = proration.by_days(used=used, full=month_of(used.start), zone=UTC_ZONE)
    price = Decimal(row["params"]["price"])
    assert proration.prorate(price, share, row["currency"]) == published(row)


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "prorated_recurring_usage_on_upgrade"), ids=vectors.row_id
)
def test_published_recurring_usage_is_prorated_to_the_change(row: vectors.Row) -> None:
    change = datetime.fromisoformat(row["input"]["change"])
    full = month_of(change)
    used = Period(full.start, change)
    assert recurring_usage(row, used, full) == published(row)


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "prorated_recurring_usage_on_termination"), ids=vectors.row_id
)
def test_published_recurring_usage_is_prorated_through_the_last_day(row: vectors.Row) -> None:
    event = datetime.fromisoformat(row["input"]["event"])
    last_day = period.local_day(datetime.fromisoformat(row["input"]["terminated"]), UTC_ZONE)
    used = Period(event, period.local_midnight(last_day + DAY, UTC_ZONE))
    assert recurring_usage(row, used, month_of(event)) == published(row)


def recurring_usage(row: vectors.Row, used: Period, full: Period) -> int:
    params = row["params"]
    share = proration.by_days(used=used, full=full, zone=UTC_ZONE)
    assert share == Fraction(params["days_used"], params["days_in_period"])
    amount = Decimal(params["unit_price"]) * Decimal(params["units"])
    return proration.prorate(amount, share, row["currency"])


@pytest.mark.parametrize(
    "row",
    vectors.rows("timezone", "first_partial_week_in_customer_timezone"),
    ids=vectors.row_id,
)
def test_published_first_weeks_are_counted_in_the_tenants_days(row: vectors.Row) -> None:
    zone = period.zone(row["params"]["timezone"])
    started = datetime.fromisoformat(row["input"]["started_at"])
    week = calendar_periods.containing(
        started,
        interval=Interval.week,
        anchor=Anchor.calendar,
        anchored_on=started.date(),
        zone=zone,
    )
    share = proration.by_days(used=Period(started, week.end), full=week, zone=zone)
    price = Decimal(row["params"]["weekly_price"])
    assert proration.prorate(price, share, row["currency"]) == published(row)


zones = st.sampled_from(["UTC", "America/Havana", "Pacific/Apia", "Asia/Kathmandu"]).map(ZoneInfo)
instants = st.datetimes(
    datetime(2009, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    datetime(2027, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(change=instants, zone=zones)
def test_the_parts_before_and_after_a_change_make_the_whole(
    change: datetime, zone: ZoneInfo
) -> None:
    full = month_of(change, zone)
    if change == full.start:
        return
    before, after = Period(full.start, change), Period(change, full.end)
    by_days = [proration.by_days(used=used, full=full, zone=zone) for used in (before, after)]
    by_seconds = [proration.by_seconds(used=used, full=full) for used in (before, after)]
    assert sum(by_days) == sum(by_seconds) == 1
    assert min(by_days) >= 0
    assert min(by_seconds) > 0


def test_a_share_is_rounded_once_and_a_half_goes_up() -> None:
    assert proration.prorate(Decimal("0.01"), Fraction(1, 2), "EUR") == 1
    assert proration.prorate(Decimal("-0.01"), Fraction(1, 2), "EUR") == -1
    with money.exact():
        third_below = Decimal("0.015") - Decimal("1E-40")
    assert proration.prorate(third_below, Fraction(1, 3), "EUR") == 0
    assert proration.prorate(Decimal(100), Fraction(1, 3), "JPY") == 33
    assert proration.prorate(Decimal(100), Fraction(1, 3), "BHD") == 33333


def test_the_hour_that_clocks_skip_counts_by_seconds_and_not_by_days() -> None:
    paris = ZoneInfo("Europe/Paris")
    full = Period(
        period.local_midnight(date(2026, 3, 28), paris),
        period.local_midnight(date(2026, 3, 30), paris),
    )
    used = period.day_bounds(date(2026, 3, 29), paris)
    assert proration.by_days(used=used, full=full, zone=paris) == Fraction(1, 2)
    assert proration.by_seconds(used=used, full=full) == Fraction(23, 47)


def test_what_is_not_inside_the_period_is_refused() -> None:
    full = month_of(midnight("2026-03-15"))
    for used in (Period(full.start, full.end + DAY), Period(full.start - DAY, full.end)):
        with pytest.raises(proration.OutsidePeriod, match="must lie inside"):
            proration.by_days(used=used, full=full, zone=UTC_ZONE)
        with pytest.raises(proration.OutsidePeriod, match="must lie inside"):
            proration.by_seconds(used=used, full=full)


def test_a_period_without_a_whole_day_can_not_be_shared_by_days() -> None:
    full = Period(midnight("2026-03-15"), midnight("2026-03-15") + timedelta(hours=5))
    with pytest.raises(proration.PeriodWithoutDays, match="prorate it by seconds"):
        proration.by_days(used=full, full=full, zone=UTC_ZONE)

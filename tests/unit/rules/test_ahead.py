"""Fees that are charged ahead: what names a stretch, and the line for what is left of it."""

import datetime as dt
from decimal import Decimal

import pytest

from models.rules import ahead, billing
from models.rules.ahead import Owed
from models.rules.billing import Days
from models.rules.proration import Proration
from tests.unit.rules.test_seconds import PARIS, price, subscription

JANUARY = Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1))
NEW_YEAR = billing.midnight(JANUARY.first, PARIS)


def january(start: dt.datetime = NEW_YEAR, proration: Proration = Proration.day) -> Owed:
    """31.00 for all of January, in Paris."""
    one = subscription(start, None, proration)
    (found,) = ahead.owed(one, [price(Decimal(31), ahead=True)], JANUARY, PARIS)
    return found


@pytest.mark.parametrize(
    ("before", "first"), [(0, 1), (-200, 1), (100, 2), (1550, 17), (3050, 31), (3099, 31)]
)
def test_what_is_left_to_charge_is_for_the_last_days_and_for_one_at_least(
    before: int, first: int
) -> None:
    owed = january()

    line = ahead.to_charge(owed, {owed.stretch: before})

    assert line is not None
    assert line.amount_minor == 3100 - before
    assert line.period == Days(dt.date(2026, 1, first), JANUARY.after).period(PARIS)
    assert line.details["days"] == 32 - first


@pytest.mark.parametrize("before", [3100, 3101])
def test_what_was_charged_for_is_not_charged_again(before: int) -> None:
    owed = january()
    assert ahead.to_charge(owed, {owed.stretch: before}) is None


@pytest.mark.parametrize("proration", Proration)
def test_what_begins_with_its_day_is_named_by_the_day_alone(proration: Proration) -> None:
    assert january(proration=proration).stretch.at is None
    assert "ahead_at" not in january(proration=proration).line.details


def test_what_begins_within_a_day_is_named_by_its_second() -> None:
    begin = NEW_YEAR + dt.timedelta(seconds=1)
    found = january(begin, Proration.second)
    assert (found.stretch.first, found.stretch.at) == (JANUARY.first, begin)
    assert ahead.stretch_of(found.line) == found.stretch

"""Quantities are rounded once, exactly, in the direction the meter names."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import meter, money
from models.rules.meter import Aggregation, Definition, Rounding, RoundingMode, Terms

quantities = st.decimals(
    min_value=-(10**30), max_value=10**30, places=14, allow_nan=False, allow_infinity=False
)
roundings = st.builds(Rounding, st.integers(0, meter.MOST_DECIMALS), st.sampled_from(RoundingMode))


@pytest.mark.parametrize(
    ("quantity", "half_up", "up", "down"),
    [
        ("2.5", "3", "3", "2"),
        ("-2.5", "-3", "-3", "-2"),
        ("2.4999", "2", "3", "2"),
        ("2", "2", "2", "2"),
        ("0.000000000001", "0", "1", "0"),
    ],
)
def test_each_mode_goes_its_own_way(quantity: str, half_up: str, up: str, down: str) -> None:
    for mode, expected in zip(RoundingMode, (half_up, up, down), strict=True):
        assert Rounding(0, mode).apply(Decimal(quantity)) == Decimal(expected)


@given(quantity=quantities, rounding=roundings)
def test_a_rounded_quantity_is_less_than_a_step_away_and_stays_when_rounded_again(
    quantity: Decimal, rounding: Rounding
) -> None:
    rounded = rounding.apply(quantity)

    with money.exact():  # a context of 28 digits rounds what it negates, too
        assert abs(rounded - quantity) < Decimal(1).scaleb(-rounding.decimals)
        assert rounding.apply(rounded) == rounded
        assert rounding.apply(-quantity) == -rounded


@given(quantity=quantities)
def test_without_rounding_a_quantity_is_left_alone(quantity: Decimal) -> None:
    assert Terms().quantity(quantity) is quantity


def test_a_quantity_of_any_size_is_rounded_exactly() -> None:
    quantity = Decimal("9" * 60 + ".5")

    assert Rounding(0, RoundingMode.half_up).apply(quantity) == Decimal(10**60)


def test_counting_events_has_no_use_for_a_value() -> None:
    with pytest.raises(meter.InvalidMeter, match="unique_count"):
        Definition(Aggregation.count, value_field="user")


@pytest.mark.parametrize("aggregation", Aggregation)
def test_only_different_values_need_not_be_numbers(aggregation: Aggregation) -> None:
    field = None if aggregation is Aggregation.count else "size"
    needs = aggregation not in {Aggregation.count, Aggregation.unique_count}

    assert Definition(aggregation, value_field=field).needs_number is needs

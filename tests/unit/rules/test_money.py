"""Money: currencies, rounding, formatting, allocation."""

from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import money
from tests.unit.rules import vectors

amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
currencies = st.sampled_from(["JPY", "EUR", "BHD", "CLF"])
weights = st.lists(st.decimals(min_value=0, max_value=10**12, places=6), min_size=1, max_size=12)


def test_every_active_currency_has_its_decimals() -> None:
    assert len(money.MINOR_UNITS) == 165
    assert {money.minor_unit(code) for code in ("JPY", "KRW", "CLP", "ISK", "XOF")} == {0}
    assert {money.minor_unit(code) for code in ("EUR", "USD", "HUF", "XCG", "ZWG")} == {2}
    assert {money.minor_unit(code) for code in ("BHD", "KWD", "TND", "IQD")} == {3}
    assert money.minor_unit("CLF") == 4


@pytest.mark.parametrize("code", ["", "eur", "EURO", "XXX", "XAU", "BGN", "TOKENS"])
def test_what_is_no_active_currency_is_refused_by_name(code: str) -> None:
    with pytest.raises(money.UnknownCurrency, match=repr(code)):
        money.minor_unit(code)


@pytest.mark.parametrize(
    "row", vectors.rows("rounding", "currency_rounding_half_up"), ids=vectors.row_id
)
def test_published_roundings_come_out(row: vectors.Row) -> None:
    amount, currency = Decimal(row["input"]["amount"]), row["currency"]
    assert money.minor_unit(currency) == row["params"]["exponent"]
    minor = money.to_minor(amount, currency)
    assert money.from_minor(minor, currency) == Decimal(row["expected_amount"])


@pytest.mark.parametrize(
    "row", vectors.rows("rounding", "subtotal_of_rounded_lines"), ids=vectors.row_id
)
def test_published_subtotals_are_sums_of_rounded_lines(row: vectors.Row) -> None:
    lines, currency = row["input"]["line_amounts"], row["currency"]
    if isinstance(lines, dict):
        lines = [lines["repeat"]] * lines["times"]
    total = sum(money.to_minor(Decimal(line), currency) for line in lines)
    assert money.from_minor(total, currency) == Decimal(row["expected_amount"])


def test_a_half_goes_away_from_zero_on_both_sides() -> None:
    assert [money.to_minor(Decimal(a), "EUR") for a in ("0.005", "-0.005")] == [1, -1]
    assert [money.to_minor(Decimal(a), "EUR") for a in ("0.00499", "-0.00499")] == [0, 0]


def test_digits_beyond_the_default_context_still_decide_the_rounding() -> None:
    just_below_half = Decimal("1.004" + "9" * 60)
    assert money.to_minor(just_below_half, "EUR") == 100
    assert money.to_minor(Decimal("1" + "0" * 40 + ".005"), "EUR") == 10**42 + 1


def test_exact_arithmetic_raises_rather_than_rounds() -> None:
    with money.exact():
        assert Decimal(10) ** 60 + 1 - Decimal(10) ** 60 == 1
        with pytest.raises(Inexact):
            Decimal(1) / 3


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1E+1001", "1E-1001"])
def test_an_amount_that_is_no_sensible_number_is_refused(text: str) -> None:
    with pytest.raises(money.AmountOutOfRange, match="out of range"):
        money.to_minor(Decimal(text), "EUR")


@given(amount=amounts, currency=currencies)
def test_rounding_moves_an_amount_by_half_a_unit_at_most(amount: Decimal, currency: str) -> None:
    unit = Fraction(1, 10 ** money.minor_unit(currency))
    moved = Fraction(amount) - money.to_minor(amount, currency) * unit
    assert abs(moved) <= unit / 2
    assert money.to_minor(amount.copy_negate(), currency) == -money.to_minor(amount, currency)


@given(minor=st.integers(-(10**40), 10**40), currency=currencies)
def test_minor_units_survive_the_way_there_and_back(minor: int, currency: str) -> None:
    assert money.to_minor(money.from_minor(minor, currency), currency) == minor


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123450, "EUR", "1,234.50 EUR"),
        (1234, "JPY", "1,234 JPY"),
        (-5, "BHD", "-0.005 BHD"),
        (0, "USD", "0.00 USD"),
        (10**32, "USD", "1,000,000,000,000,000,000,000,000,000,000.00 USD"),
    ],
)
def test_people_read_the_currencys_own_decimals(minor: int, currency: str, text: str) -> None:
    assert money.format_minor(minor, currency) == text


@given(total=st.integers(-(10**15), 10**15), weights=weights)
def test_an_allocation_sums_exactly_and_is_fair_to_one_unit(
    total: int, weights: list[Decimal]
) -> None:
    whole = sum(Fraction(weight) for weight in weights)
    if whole == 0:
        weights, whole = [*weights, Decimal(1)], Fraction(1)
    parts = money.allocate(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * Fraction(weight) / whole) < 1


def test_what_is_left_over_goes_to_the_largest_remainder_then_to_the_earlier() -> None:
    assert money.allocate(100, [Decimal(1)] * 3) == [34, 33, 33]
    assert money.allocate(-100, [Decimal(1)] * 3) == [-34, -33, -33]
    assert money.allocate(10, [Decimal("0.1"), Decimal("0.9"), Decimal("0.5")]) == [1, 6, 3]
    assert money.allocate(1, [Decimal(0), Decimal(1), Decimal(1)]) == [0, 1, 0]


def test_nothing_is_split_into_nothing_over_any_weights() -> None:
    assert money.allocate(0, [Decimal(0), Decimal(0)]) == [0, 0]
    assert money.allocate(0, []) == []


@pytest.mark.parametrize("weights", [[], ["0"], ["1", "-1"], ["NaN"], ["Infinity"]])
def test_something_is_not_split_over_weights_that_say_nothing(weights: list[str]) -> None:
    with pytest.raises(money.NothingToAllocateOver, match="can not allocate"):
        money.allocate(1, [Decimal(weight) for weight in weights])

"""Rating: exact amounts, one rounding."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import money, pricing
from tests.unit.rules import vectors

unit_amounts = st.decimals(min_value=0, max_value=10**9, places=12)
quantities = st.decimals(min_value=-(10**40), max_value=10**40, places=18)

PER_UNIT = vectors.rows("pricing", "per_unit") + vectors.rows("rounding", "per_unit")


def per_unit(unit_amount: str) -> pricing.Price:
    return pricing.Price(pricing.Model.per_unit, Decimal(unit_amount))


@pytest.mark.parametrize("row", PER_UNIT, ids=vectors.row_id)
def test_published_per_unit_amounts_come_out(row: vectors.Row) -> None:
    price = per_unit(row["params"]["unit_price"])
    line = pricing.rate(price, Decimal(row["input"]["units"]), row["currency"])
    assert money.from_minor(line.amount_minor, row["currency"]) == Decimal(row["expected_amount"])


@given(unit_amount=unit_amounts, quantity=quantities)
def test_a_line_is_exact_and_rounded_once(unit_amount: Decimal, quantity: Decimal) -> None:
    line = pricing.rate(pricing.Price(pricing.Model.per_unit, unit_amount), quantity, "EUR")
    assert Fraction(line.amount) == Fraction(unit_amount) * Fraction(quantity)
    assert line.amount_minor == money.to_minor(line.amount, "EUR")
    assert sum(Fraction(step.amount) for step in line.detail) == Fraction(line.amount)


def test_huge_quantities_keep_every_digit() -> None:
    quantity = Decimal("123456789012345678901234567890123456789.123456789")
    line = pricing.rate(per_unit("0.000000000003"), quantity, "EUR")
    assert line.amount == Decimal("370370367037037036703703703.670370370367370370367")
    assert line.amount_minor == 37037036703703703670370370367


def test_a_fixed_fee_does_not_grow_with_the_quantity() -> None:
    price = pricing.Price(pricing.Model.fixed, Decimal("9.99"))
    for quantity in (Decimal(0), Decimal(1), Decimal(1000)):
        line = pricing.rate(price, quantity, "EUR")
        assert (line.quantity, line.amount_minor) == (Decimal(1), 999)


def test_a_line_says_what_it_multiplied() -> None:
    line = pricing.rate(per_unit("0.125"), Decimal(3), "EUR")
    assert line == pricing.Line(
        quantity=Decimal(3),
        unit_amount=Decimal("0.125"),
        amount=Decimal("0.375"),
        amount_minor=38,
        detail=(pricing.Step(Decimal(3), Decimal("0.125"), Decimal("0.375")),),
    )


def test_a_correction_below_zero_is_rounded_as_its_magnitude() -> None:
    assert pricing.rate(per_unit("0.125"), Decimal(-3), "EUR").amount_minor == -38


@pytest.mark.parametrize("text", ["-1", "NaN", "Infinity", "0.0000000000001", "1E+1000"])
def test_a_price_that_can_not_be_charged_is_refused(text: str) -> None:
    with pytest.raises(pricing.InvalidPrice, match="can not be charged"):
        per_unit(text)


def test_zeros_after_the_twelfth_decimal_do_no_harm() -> None:
    assert per_unit("0.0010000000000000").unit_amount == Decimal("0.001")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1E+1001"])
def test_a_quantity_that_is_no_sensible_number_is_refused(text: str) -> None:
    with pytest.raises(money.AmountOutOfRange):
        pricing.rate(per_unit("1"), Decimal(text), "EUR")


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(money.UnknownCurrency):
        pricing.rate(per_unit("1"), Decimal(1), "EURO")

"""Rating by one amount, and what every line owes: exact, rounded once, followed by its steps."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import money, pricing
from models.rules.pricing import Line, Model, Price, Step, StepKind

unit_amounts = st.decimals(min_value=0, max_value=10**9, places=12)
quantities = st.decimals(min_value=-(10**40), max_value=10**40, places=18)


def per_unit(unit_price: Decimal | str, **params: Any) -> Price:
    return pricing.read(Model.per_unit, {"unit_price": unit_price, **params})


def rate(price: Price, quantity: Decimal | str, currency: str = "EUR", **more: Any) -> Line:
    return pricing.rate(price, pricing.total(Decimal(quantity)), currency, **more)


def steps(line: Line) -> list[tuple[str, str]]:
    return [(step["kind"], step["amount"]) for step in pricing.as_json(line.steps)]


@given(unit_amount=unit_amounts, quantity=quantities)
def test_a_line_is_exact_and_rounded_once(unit_amount: Decimal, quantity: Decimal) -> None:
    line = rate(per_unit(unit_amount), quantity)
    assert line.amount == Fraction(unit_amount) * Fraction(quantity)
    assert line.amount_minor == money.round_half_up(line.amount * 100)


@given(unit_amount=unit_amounts, quantity=quantities)
def test_the_short_way_of_plain_prices_says_what_the_long_one_does(
    unit_amount: Decimal, quantity: Decimal
) -> None:
    plain, long = per_unit(unit_amount), per_unit(unit_amount, max_spend="999999999999999999")
    assert plain.is_plain
    assert not long.is_plain
    if unit_amount * quantity < 10**17:
        assert rate(plain, quantity) == rate(long, quantity)


def test_huge_quantities_keep_every_digit() -> None:
    quantity = "123456789012345678901234567890123456789.123456789"
    line = rate(per_unit("0.000000000003"), quantity)
    assert line.amount == Fraction("370370367037037036703703703.670370370367370370367")
    assert line.amount_minor == 37037036703703703670370370367


def test_a_fixed_fee_does_not_grow_with_the_quantity() -> None:
    price = pricing.read(Model.fixed, {"unit_price": "9.99"})
    for quantity in ("0", "1", "1000"):
        assert rate(price, quantity).amount_minor == 999


def test_a_line_says_what_it_multiplied() -> None:
    assert rate(per_unit("0.125"), "3") == Line(
        quantity=Decimal(3),
        unit_amount=Decimal("0.125"),
        amount=Fraction("0.375"),
        amount_minor=38,
        steps=(
            Step(StepKind.units, Fraction(3), Decimal("0.125"), Fraction("0.375"), amount_minor=38),
        ),
    )


def test_a_correction_below_zero_is_rounded_as_its_magnitude() -> None:
    assert rate(per_unit("0.125"), "-3").amount_minor == -38


def test_a_price_for_many_units_is_exact_where_no_decimal_is() -> None:
    line = rate(per_unit("3.53", per="3600"), "179996", "USD")
    assert line.amount == Fraction("3.53") * 179996 / 3600
    assert (line.amount_minor, line.unit_amount) == (17650, None)
    a_half_exactly = rate(per_unit("0.01", per="3"), "1.5", "USD")
    assert a_half_exactly.amount_minor == 1


def test_free_units_are_shown_and_not_charged() -> None:
    price = per_unit("2", free_units="100")
    assert steps(rate(price, "130")) == [("free", "0"), ("units", "60")]
    assert rate(price, "99").amount == 0
    assert rate(price, "-5").amount == -10


@pytest.mark.parametrize(
    ("mode", "decimals", "quantity", "priced"),
    [
        ("up", 0, "4.1", 5),
        ("down", 0, "4.9", 4),
        ("half_up", 0, "4.5", 5),
        ("half_up", -1, "123.4567", 120),
        ("up", -2, "101", 200),
        ("up", 0, "-4.1", -5),
        ("down", 0, "-4.9", -4),
        ("half_up", 0, "-4.5", -5),
        ("half_up", 0, "0", 0),
    ],
)
def test_quantities_are_rounded_before_they_are_priced(
    mode: str, decimals: int, quantity: str, priced: int
) -> None:
    price = per_unit("1", quantity_rounding={"mode": mode, "decimals": decimals})
    assert rate(price, quantity).amount == priced


def test_packages_are_begun_or_full() -> None:
    begun = pricing.read(Model.package, {"package_size": "10", "package_price": "5"})
    full = pricing.read(
        Model.package, {"package_size": "10", "package_price": "5", "rounding": "down"}
    )
    by_units = [("0", 0, 0), ("0.1", 5, 0), ("10", 5, 5), ("10.1", 10, 5), ("-1", 0, 0)]
    for units, if_begun, if_full in by_units:
        assert rate(begun, units).amount == if_begun
        assert rate(full, units).amount == if_full


def test_a_minimum_is_filled_up_and_a_maximum_cut_off() -> None:
    price = per_unit("10", min_spend="100", max_spend="200")
    assert steps(rate(price, "3")) == [("units", "30"), ("minimum", "70")]
    assert steps(rate(price, "15")) == [("units", "150")]
    assert steps(rate(price, "25")) == [("units", "250"), ("maximum", "-50")]
    assert rate(price, "3", is_final=False).amount == 30


def test_limits_are_those_of_the_days_unless_the_price_says_otherwise() -> None:
    half = Fraction(1, 2)
    assert rate(per_unit("1", min_spend="100"), "3", share=half).amount == 50
    assert rate(per_unit("1", max_spend="100"), "300", share=half).amount == 50
    assert rate(per_unit("1", min_spend="100", prorate=False), "3", share=half).amount == 100


def test_what_was_billed_before_is_taken_off() -> None:
    line = pricing.less(rate(per_unit("10", max_spend="100"), "12"), Fraction(70), "EUR")
    assert line.amount == Fraction(30)
    assert line.amount_minor == 3000
    assert steps(line) == [("units", "120"), ("maximum", "-20"), ("billed", "-70")]


def test_a_fee_is_for_seats_and_days() -> None:
    graduated = {"tiers": [{"up_to": "5", "unit_price": "7", "flat_fee": "3"}, {"unit_price": "6"}]}
    share = Fraction(10, 31)
    for model, params, whole in (
        (Model.fixed, {"unit_price": "9.99"}, Fraction("69.93")),
        (Model.per_unit, {"unit_price": "9.99"}, Fraction("69.93")),
        (Model.graduated, graduated, Fraction(50)),
    ):
        price = pricing.read(model, params)
        assert pricing.fee(price, Decimal(7), "EUR").amount == whole
        part = pricing.fee(price, Decimal(7), "EUR", share=share)
        assert part.amount == whole * share
        assert sum(step.amount_minor for step in part.steps) == part.amount_minor


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1E+1001"])
def test_a_quantity_that_is_no_sensible_number_is_refused(text: str) -> None:
    for price in (per_unit("1"), per_unit("1", free_units="1")):
        with pytest.raises(money.AmountOutOfRange):
            rate(price, text)


def test_an_unknown_currency_is_refused() -> None:
    for price in (per_unit("1"), per_unit("1", free_units="1")):
        with pytest.raises(money.UnknownCurrency):
            rate(price, "1", "EURO")

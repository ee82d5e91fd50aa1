"""Lines, discounts and taxes add up to the minor unit, whatever the coupons and rates."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import money, waterfall
from models.rules.coupon import Coupon, InvalidCoupon, Item, Redemption, Scope
from models.rules.waterfall import Bill, TaxRate

METRICS = ("calls", "bytes", "seats")

scopes = st.sampled_from([Scope(), Scope(metrics=("calls",)), Scope(metrics=("bytes", "seats"))])
amounts = st.integers(-(10**6), 10**9)
items = st.lists(st.builds(Item, amounts, metric=st.sampled_from(METRICS)), min_size=1, max_size=8)
percents = st.decimals("0.0001", 100, places=4)
coupons = st.lists(
    st.one_of(
        st.builds(Coupon, st.just(UUID(int=1)), st.just("p"), st.just("p"), percents, scope=scopes),
        st.builds(
            Coupon,
            st.just(UUID(int=2)),
            st.just("a"),
            st.just("a"),
            amount_minor=st.integers(1, 10**7),
            scope=scopes,
        ),
    ),
    max_size=4,
)
rates = st.lists(
    st.builds(TaxRate, st.just("t"), st.just("t"), percents, st.booleans(), scopes), max_size=3
)


def percent(written: str, **more: object) -> Coupon:
    return Coupon(UUID(int=1), "P", "P", percent=Decimal(written), **more)


def off(minor: int, **more: object) -> Coupon:
    return Coupon(UUID(int=1), "A", "A", amount_minor=minor, **more)


def rate(written: str, *, inclusive: bool = False, scope: Scope | None = None) -> TaxRate:
    return TaxRate("vat", "VAT", Decimal(written), inclusive, scope or Scope())


@given(items, coupons, rates)
def test_the_figures_of_lines_add_up_to_the_figures_of_the_bill(
    items: list[Item], coupons: list[Coupon], rates: list[TaxRate]
) -> None:
    bill = waterfall.bill(items, coupons, rates)

    places = range(len(items))
    assert sum(bill.amounts_minor) == bill.subtotal_minor
    assert sum(bill.gross_minor(place) for place in places) == bill.total_minor
    assert sum(sum(one.lines_minor) for one in bill.discounts) == bill.discount_minor
    on_top = sum(sum(one.lines_minor) for one in bill.taxes if not one.inclusive)
    assert bill.total_minor == bill.subtotal_minor - bill.discount_minor + on_top


@given(items, coupons, rates)
def test_no_coupon_takes_more_than_there_is_nor_makes_a_line_negative(
    items: list[Item], coupons: list[Coupon], rates: list[TaxRate]
) -> None:
    bill = waterfall.bill(items, coupons, rates)

    for place, item in enumerate(items):
        net = bill.net_minor(place)
        if item.amount_minor > 0:
            assert 0 <= net <= item.amount_minor
        else:
            assert net == item.amount_minor
    assert all(one.amount_minor > 0 for one in bill.discounts)


@given(items, rates)
def test_each_rate_is_the_rounded_percentage_of_the_prices_without_the_taxes_inside(
    items: list[Item], rates: list[TaxRate]
) -> None:
    bill = waterfall.bill(items, (), rates)

    for one, tax in zip(rates, bill.taxes, strict=True):
        exact = Fraction(0)
        for item in items:
            if one.scope.covers(item):
                inside = sum(
                    Fraction(other.percent)
                    for other in rates
                    if other.inclusive and other.scope.covers(item)
                )
                net = Fraction(item.amount_minor) / (1 + Fraction(inside) / 100)
                exact += net * Fraction(one.percent) / 100
        assert tax.amount_minor == money.round_half_up(exact)
        assert all(
            part == 0
            for item, part in zip(items, tax.lines_minor, strict=True)
            if not one.scope.covers(item)
        )


@given(items, coupons, st.integers(1, 10**6))
def test_a_larger_fixed_coupon_never_makes_a_bill_dearer(
    items: list[Item], coupons: list[Coupon], amount: int
) -> None:
    smaller = waterfall.bill(items, [*coupons, off(amount)])
    larger = waterfall.bill(items, [*coupons, off(amount + 1)])

    assert larger.total_minor <= smaller.total_minor


def test_coupons_act_on_what_those_before_them_left() -> None:
    items = [Item(10_000)]

    assert waterfall.bill(items, [percent("10"), off(1_000)]).total_minor == 8_000
    assert waterfall.bill(items, [off(1_000), percent("10")]).total_minor == 8_100


def test_a_scoped_coupon_touches_its_lines_alone() -> None:
    items = [Item(1_000, metric="calls"), Item(1_000, metric="bytes")]

    (discount,) = waterfall.bill(items, [off(5_000, scope=Scope(metrics=("calls",)))]).discounts

    assert discount.lines_minor == (1_000, 0)


@pytest.mark.parametrize(
    "scope",
    [
        Scope(plan_keys=("pro",)),
        Scope(price_keys=("base", "calls")),
        Scope(metrics=("calls",)),
        Scope(("pro",), ("calls",), ("calls",)),
    ],
)
def test_each_list_of_a_scope_must_have_what_the_line_has(scope: Scope) -> None:
    inside = Item(1_000, "pro", "calls", "calls")

    assert scope.covers(inside)
    for field in ("plan_key", "price_key", "metric"):
        named = {"plan_key": "plan_keys", "price_key": "price_keys", "metric": "metrics"}[field]
        for other in ("another", None):
            covered = scope.covers(replace(inside, **{field: other}))
            assert covered == (not getattr(scope, named))


@pytest.mark.parametrize(
    ("redeemed", "ended", "is_on"),
    [
        ("2026-01-31T23:59", None, True),
        ("2026-02-01", None, False),
        ("2026-01-01", "2026-02-01", True),
        ("2026-01-01", "2026-01-31T23:59", False),
    ],
)
def test_a_coupon_is_on_a_period_that_ends_while_it_is_had_the_last_instant_included(
    redeemed: str, ended: str | None, is_on: bool
) -> None:
    had = Redemption(
        percent("10"),
        currency=None,
        invoices=None,
        redeemed_at=datetime.fromisoformat(redeemed),
        ended_at=None if ended is None else datetime.fromisoformat(ended),
    )

    assert had.is_for("EUR", datetime.fromisoformat("2026-02-01"), used_on_others=0) is is_on


def test_what_a_tax_is_a_percentage_of_is_what_is_left_of_its_lines_without_taxes_inside() -> None:
    items = [Item(12_000, metric="calls"), Item(5_000, metric="bytes")]
    coupon = off(2_000, scope=Scope(metrics=("calls",)))

    bill = waterfall.bill(
        items,
        [coupon],
        [
            rate("25", inclusive=True, scope=Scope(metrics=("calls",))),
            rate("10", scope=Scope(metrics=("calls",))),
            rate("5"),
        ],
    )

    assert [tax.taxable_minor for tax in bill.taxes] == [8_000, 8_000, 13_000]
    assert [tax.amount_minor for tax in bill.taxes] == [2_000, 800, 650]


def test_a_coupon_that_finds_nothing_is_not_on_the_bill() -> None:
    bill = waterfall.bill([Item(1_000, metric="calls")], [off(5, scope=Scope(plan_keys=("pro",)))])

    assert bill == Bill((1_000,))


def test_cents_that_do_not_divide_go_to_the_largest_remainders() -> None:
    items = [Item(100), Item(100), Item(100)]

    bill = waterfall.bill(items, [off(100)], [rate("10")])

    assert bill.discounts[0].lines_minor == (34, 33, 33)
    assert bill.taxes[0].lines_minor == (6, 7, 7)


def test_a_correction_below_zero_is_taxed_like_what_it_corrects() -> None:
    bill = waterfall.bill([Item(10_000), Item(-2_500)], [], [rate("19")])

    assert bill.taxes[0].lines_minor == (1_900, -475)
    assert bill.total_minor == 8_925


def test_a_percentage_is_reckoned_from_the_lines_with_their_corrections() -> None:
    bill = waterfall.bill([Item(10_000), Item(-2_000)], [percent("10")])

    assert bill.discounts[0].lines_minor == (800, 0)


def test_taxes_inside_and_on_top_are_both_of_the_price_without_those_inside() -> None:
    bill = waterfall.bill([Item(12_000)], [], [rate("20", inclusive=True), rate("5")])

    assert [(tax.amount_minor, tax.taxable_minor) for tax in bill.taxes] == [
        (2_000, 10_000),
        (500, 10_000),
    ]
    assert (bill.total_minor, bill.included_tax_minor) == (12_500, 2_000)


@pytest.mark.parametrize(
    ("percentage", "amount"),
    [(None, None), ("10", 5), ("0", None), ("100.01", None), (None, 0)],
)
def test_a_coupon_without_clear_terms_is_refused(
    percentage: str | None, amount: int | None
) -> None:
    with pytest.raises(InvalidCoupon):
        Coupon(UUID(int=1), "X", "X", None if percentage is None else Decimal(percentage), amount)

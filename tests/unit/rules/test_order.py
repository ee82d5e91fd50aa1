"""The rules of orders: currencies, moves, and the arithmetic of refunds."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import order, order_refund
from models.rules.expiry import ExpiryUnit
from models.rules.offer import Currency, Item, Offer, Price
from models.rules.order import Grant, Line, Order
from models.rules.order_refund import Left
from models.rules.refusal import Refusal
from models.rules.states import ORDER, OrderState

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
CALLS = Item("CALLS", Decimal(100), ExpiryUnit.days, 30)


def offer(price: str = "10", currency: str = "EUR", *, is_product: bool = False) -> Offer:
    paid_in = Currency(currency, is_product=is_product)
    return Offer("PACK", "Pack", Price(Decimal(price), paid_in), (CALLS,), True, {}, 1)


def left(granted: Decimal, revoked: Decimal) -> Left:
    return Left(granted, revoked, True, START, None)


UNITS = st.decimals(min_value="0.001", max_value=10**6, places=3)


@st.composite
def batches(draw: st.DrawFn) -> Left:
    granted = draw(UNITS)
    part = draw(st.fractions(min_value=0, max_value=1, max_denominator=1000))
    revoked = (granted * part.numerator / part.denominator).quantize(Decimal("0.001"))
    days = draw(st.none() | st.integers(min_value=1, max_value=400))
    ends = None if days is None else START + dt.timedelta(days=days)
    return Left(granted, min(granted, revoked), draw(st.booleans()), START, ends)


LINES = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=10**6),
        st.integers(min_value=1, max_value=50),
        st.lists(batches(), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=6,
)


@given(LINES, st.integers(min_value=-1, max_value=500))
def test_refunds_add_up_and_none_is_above_its_line(
    drawn: list[tuple[int, int, list[Left]]], day: int
) -> None:
    now = START + dt.timedelta(days=day)
    lines = [(Line("X", quantity, price, ()), found) for price, quantity, found in drawn]

    amounts = order_refund.refundable(lines, now=now)

    exact = [
        line.amount_minor * sum((one.share(now) for one in found), Fraction(0)) / len(found)
        for line, found in lines
    ]
    assert abs(sum(amounts) - sum(exact, Fraction(0))) <= Fraction(1, 2)
    for amount, share, (line, _) in zip(amounts, exact, lines, strict=True):
        assert 0 <= amount <= line.amount_minor
        assert abs(amount - share) < 1


@given(batches(), st.integers(min_value=0, max_value=500), st.integers(min_value=0, max_value=500))
def test_waiting_never_raises_what_is_refundable(found: Left, day: int, more: int) -> None:
    sooner, later = START + dt.timedelta(days=day), START + dt.timedelta(days=day + more)

    shares = [Fraction(0), found.share(later), found.share(sooner), Fraction(1)]
    assert shares == sorted(shares)


def test_all_that_was_left_is_all_that_was_paid() -> None:
    whole = [(Line("X", 3, 333, ()), [left(Decimal(7), Decimal(7))])] * 2

    assert order_refund.refundable(whole, now=START) == [999, 999]


def test_a_half_cent_goes_up_once_over_the_whole() -> None:
    half = [(Line("X", 1, 1, ()), [left(Decimal(2), Decimal(1))])]

    assert order_refund.refundable(half, now=START) == [1]
    assert order_refund.refundable(half * 2, now=START) == [1, 0]


def test_lines_have_the_price_in_minor_units_and_all_that_they_grant() -> None:
    currency, (line,) = order.lines_of([(offer("12.30"), 4)])

    assert (currency, line.unit_price_minor, line.amount_minor) == ("EUR", 1230, 4920)
    assert line.grants == (Grant(Item("CALLS", Decimal(400), ExpiryUnit.days, 30)),)


@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        ([(offer(), 1), (offer(currency="USD"), 1)], order.MixedCurrencies),
        ([(offer(), 1), (offer(currency="COINS", is_product=True), 1)], order.NotInMoney),
        ([(offer("9999999999999999"), 1), (offer(), 1)], order.OrderTooLarge),
    ],
)
def test_offers_that_can_not_be_ordered_together(
    wanted: list[tuple[Offer, int]], refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        order.lines_of(wanted)


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("event", ["pay", "cancel", "refund"])
def test_an_event_leads_where_the_table_says_or_is_refused(state: OrderState, event: str) -> None:
    one = Order(UUID(int=1), "acme", state, "EUR", 100, (), {}, 1, START)

    target = ORDER.transitions[state].get(event)
    if target is not None:
        assert order.next_state(one, event) is target
    else:
        with pytest.raises(Refusal) as refused:
            order.next_state(one, event)
        assert refused.value.code in {
            "order.not_paid",
            "order.already_paid",
            "order.already_refunded",
            "order.already_cancelled",
        }
        assert str(one.id) in refused.value.message

"""What late usage comes to: billed and adjustments together are what the period costs."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from models.rules import billing, late
from models.rules.billing import Days, Line
from models.rules.late import Billed
from models.rules.period import Period

JANUARY = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
INVOICE = UUID(int=1)


def line(amount_minor: int, price: int = 1, kind: str = billing.USAGE) -> Line:
    return Line(
        kind=kind,
        subscription_id=UUID(int=9),
        price_id=UUID(int=price),
        metric=None if kind == billing.FIXED else "calls",
        description=f"Price {price}",
        quantity=Decimal(amount_minor) / 4,
        unit_amount=None,
        amount_minor=amount_minor,
        period=JANUARY,
        details={"plan_key": "pro", "steps": [1]},
    )


def billed(lines: list[Line], since: list[Line] | None = None) -> Billed:
    days = Days(date(2026, 1, 1), date(2026, 2, 1))
    return Billed(INVOICE, "INV-7", days, lines, since or [])


amounts = st.lists(st.integers(-500, 500), min_size=3, max_size=3)


def lines(values: list[int]) -> list[Line]:
    return [line(value, price) for price, value in enumerate(values)]


@given(then=amounts, history=st.lists(amounts, min_size=1, max_size=4))
def test_whatever_arrives_when_all_adjustments_come_to_what_the_period_costs(
    then: list[int], history: list[list[int]]
) -> None:
    since: list[Line] = []
    for costs in history:
        since += late.adjustments(billed(lines(then), since), lines(costs))
        assert late.adjustments(billed(lines(then), since), lines(costs)) == []

    for price, last in enumerate(history[-1]):
        of_price = [one for one in [*lines(then), *since] if one.price_id == UUID(int=price)]
        assert sum(one.amount_minor for one in of_price) == last
        assert sum(one.quantity for one in of_price) == Decimal(last) / 4


def test_an_adjustment_names_its_period_its_invoice_and_both_figures() -> None:
    (found,) = late.adjustments(billed([line(400), line(100, 2)]), [line(300), line(100, 2)])

    assert (found.kind, found.amount_minor) == ("adjustment", -100)
    assert found.quantity == Decimal(-25)
    assert found.description == "Price 1: late usage of 2026-01-01 to 2026-01-31 (INV-7)"
    assert (found.period, found.adjusts) == (JANUARY, INVOICE)
    assert found.details == {
        "plan_key": "pro",
        "adjusts": "INV-7",
        "timezone": "UTC",
        "billed_minor": 400,
        "costs_minor": 300,
    }


def test_fees_do_not_depend_on_usage() -> None:
    then, now = line(400, kind=billing.FIXED), line(500, kind=billing.FIXED)
    assert late.adjustments(billed([then]), [now]) == []


def test_what_was_billed_of_another_stretch_is_not_taken_for_it() -> None:
    moved = replace(line(400), period=Period(JANUARY.start, datetime(2026, 1, 9, tzinfo=UTC)))
    (found,) = late.adjustments(billed([moved]), [line(300)])
    assert found.amount_minor == 300


def test_what_another_subscription_was_billed_is_not_taken_for_it() -> None:
    others = replace(line(400), subscription_id=UUID(int=8))
    (found,) = late.adjustments(billed([others]), [line(300)])
    assert (found.subscription_id, found.amount_minor) == (UUID(int=9), 300)


def test_an_adjustment_is_no_quantity_at_one_amount() -> None:
    then, now = (replace(line(amount), unit_amount=Decimal(4)) for amount in (400, 300))
    (found,) = late.adjustments(billed([then]), [now])
    assert found.unit_amount is None


def sources(*figures: tuple[int, str]) -> list[Line]:
    return [replace(line(amount), quantity=Decimal(quantity)) for amount, quantity in figures]


def test_what_is_taken_back_comes_from_one_line_after_the_other_as_far_as_each_reaches() -> None:
    found = late.shared_out(700, Decimal(7), sources((400, "4"), (200, "2"), (500, "5")))

    assert found == [(400, Decimal(4)), (200, Decimal(2)), (100, Decimal(1))]


def test_nothing_is_taken_from_a_line_below_zero() -> None:
    found = late.shared_out(300, Decimal(3), sources((-100, "-1"), (400, "4")))

    assert found == [(0, Decimal(0)), (300, Decimal(3))]


def test_the_line_that_the_rest_comes_from_gives_all_units_that_are_left() -> None:
    # By tiers, the last units may have cost less than what its line billed of them.
    found = late.shared_out(300, Decimal(9), sources((200, "2"), (400, "4"), (100, "1")))

    assert found == [(200, Decimal(2)), (100, Decimal(7)), (0, Decimal(0))]

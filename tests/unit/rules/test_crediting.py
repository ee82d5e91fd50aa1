"""Credit notes never exceed what was billed, and together come to it exactly."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import crediting, waterfall
from models.rules.coupon import Item
from models.rules.crediting import Line, Lines, MoreThanBilled, NothingToCredit, Part, UnknownLine
from models.rules.waterfall import TaxRate

rates = st.lists(
    st.builds(
        TaxRate, st.just("t"), st.just("t"), st.decimals("0.01", 60, places=2), st.booleans()
    ),
    max_size=3,
)


def billed(amounts: list[int], rates: list[TaxRate]) -> Lines:
    bill = waterfall.bill([Item(amount) for amount in amounts], (), rates)
    lines = []
    for place in range(len(amounts)):
        taxes = tuple(tax.lines_minor[place] for tax in bill.taxes)
        net = bill.net_minor(place)
        lines.append(Line(net, taxes, net, taxes))
    return Lines(lines, tuple(rate.inclusive for rate in rates), "EUR")


def sane(left: Lines) -> bool:
    """Whether nothing was credited above what was billed."""
    return all(
        0 <= line.net_left <= line.net
        and all(0 <= rest <= tax for rest, tax in zip(line.taxes_left, line.taxes, strict=True))
        for line in left.lines
    )


@given(
    st.lists(st.integers(0, 10**7), min_size=1, max_size=6).filter(any),
    rates,
    st.data(),
)
def test_any_row_of_notes_stays_below_the_bill_and_the_last_one_empties_it(
    amounts: list[int], rates: list[TaxRate], data: Any
) -> None:
    left = billed(amounts, rates)
    total, credited = left.total_left, 0
    for _ in range(data.draw(st.integers(0, 5))):
        if left.total_left == 0:
            break
        parts = _some_note(left, data)
        assert left.total(parts) > 0
        credited += left.total(parts)
        left = left.after(parts)
        assert sane(left)
        assert left.total_left == total - credited
    if left.total_left:
        credited += left.total(crediting.whole(left))
        left = left.after(crediting.whole(left))
    assert credited == total
    assert all(line.net_left == 0 and not any(line.taxes_left) for line in left.lines)


def _some_note(left: Lines, data: Any) -> list[Part]:
    open_lines = [place for place, line in enumerate(left.lines) if line.net_left > 0]
    if open_lines and data.draw(st.booleans()):
        chosen = data.draw(st.lists(st.sampled_from(open_lines), min_size=1, unique=True))
        return crediting.by_line(
            left,
            {place: data.draw(st.integers(1, left.lines[place].net_left)) for place in chosen},
        )
    amount = data.draw(st.integers(1, left.total_left))
    parts = crediting.by_amount(left, amount)
    assert left.total(parts) == amount
    return parts


@given(
    st.lists(st.integers(1, 10**5), min_size=1, max_size=5),
    st.integers(-(10**5), 0),
    rates,
    st.data(),
)
def test_lowered_amounts_are_a_note_of_what_is_left_and_as_much_as_can_be(
    amounts: list[int], below: int, rates: list[TaxRate], data: Any
) -> None:
    left = billed([*amounts, below], rates)
    wanted = {
        place: data.draw(st.integers(1, one.net_left))
        for place, one in enumerate(left.lines)
        if one.net_left > 0
    }

    kept = crediting.lowered(left, wanted)

    assert all(0 < amount <= wanted[place] for place, amount in kept.items())
    if kept:
        total = left.total(crediting.by_line(left, kept))
        # A tax on top that is rounded up may cost a unit each.
        assert kept == wanted or left.total_left - total <= 2 * (1 + len(rates))
    elif wanted:
        assert left.total_left <= 2 * (1 + len(rates))


def test_an_amount_is_lowered_again_where_its_taxes_are_rounded_up() -> None:
    taxes = [("8.87", False), ("34.01", False), ("26.84", True)]
    left = billed([115, -50], [TaxRate("t", "t", Decimal(rate), ins) for rate, ins in taxes])

    kept = crediting.lowered(left, {0: 92})

    assert kept == {0: 64}
    assert left.total(crediting.by_line(left, kept)) <= left.total_left


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.decimals("0.01", 60, places=2))
def test_the_tax_of_a_part_is_its_share_of_the_tax(
    net: int, credited: int, percent: Decimal
) -> None:
    left = billed([net], [TaxRate("t", "t", percent)])
    credited = min(net, credited)

    (part,) = crediting.by_line(left, {0: credited})

    exact = Fraction(left.lines[0].taxes[0] * credited, net)
    assert abs(part.taxes_minor[0] - exact) <= Fraction(1, 2)


def test_a_tax_inside_the_price_is_taken_back_with_it_and_one_on_top_besides() -> None:
    """12.00 with 20 % inside, and 10 % of 10.00 on top."""
    inside, on_top = TaxRate("in", "in", Decimal(20), True), TaxRate("on", "on", Decimal(10))
    left = billed([1_200], [inside, on_top])

    by_line = crediting.by_line(left, {0: 300})
    by_amount = crediting.by_amount(left, 650)

    assert (left.total_left, left.left(0)) == (1_300, 1_300)
    assert (by_line, left.total(by_line)) == ([Part(0, 300, (50, 25))], 325)
    assert (by_amount, left.total(by_amount)) == ([Part(0, 600, (100, 50))], 650)
    assert left.total(crediting.whole(left)) == 1_300


def test_a_whole_note_takes_corrections_back_too() -> None:
    left = billed([1_000, -300], [TaxRate("t", "t", Decimal(10))])

    parts = crediting.whole(left)

    assert left.total(parts) == 770
    assert crediting.by_amount(left, 770) == parts
    with pytest.raises(NothingToCredit):
        crediting.whole(left.after(parts))


def test_a_tax_that_is_left_of_a_line_alone_is_taken_back_too() -> None:
    left = Lines([Line(100, (10,), 0, (1,)), Line(100, (10,), 0, (0,))], (False,), "EUR")

    assert crediting.whole(left) == [Part(0, 0, (1,))]


def test_an_invoice_whose_corrections_are_above_its_lines_is_not_taken_back() -> None:
    left = billed([100, -300], [])

    with pytest.raises(NothingToCredit):
        crediting.whole(left)


def test_an_amount_is_spread_over_what_was_billed_and_not_over_corrections() -> None:
    left = billed([1_000, -300, 500], [TaxRate("t", "t", Decimal(10))])

    parts = crediting.by_amount(left, 660)

    assert [part.place for part in parts] == [0, 2]
    assert left.total(parts) == 660


def test_no_more_of_a_tax_is_taken_back_than_is_left_of_it() -> None:
    """Notes before this one were rounded up."""
    left = Lines([Line(100, (10,), 50, (1,))], (False,), "EUR")

    assert crediting.by_line(left, {0: 25}) == [Part(0, 25, (1,))]


def test_what_is_above_the_rest_of_a_line_comes_from_its_tax_on_top() -> None:
    """9 of 10 that are left: 5 of the line and 5 of its tax. That inside follows the line."""
    left = Lines([Line(100, (20, 10), 5, (20, 5))], (True, False), "EUR")

    assert crediting.by_amount(left, 9) == [Part(0, 5, (2, 4))]


def test_rounded_taxes_that_are_above_the_amount_are_lessened() -> None:
    left = Lines([Line(0, (5, 5), 0, (5, 5))], (False, False), "EUR")

    assert crediting.by_amount(left, 1) == [Part(0, 0, (0, 1))]


def test_parts_are_in_the_order_of_the_lines_also_where_some_are_taken_back_whole() -> None:
    left = billed([100, 1, 100], [])

    assert [part.place for part in crediting.by_amount(billed([100, 1], []), 100)] == [0, 1]
    assert [part.place for part in crediting.by_line(left, {2: 1, 0: 1, 1: 1})] == [0, 1, 2]


@pytest.mark.parametrize("amount", [0, -1, 111])
def test_more_than_is_left_is_refused(amount: int) -> None:
    left = billed([100], [TaxRate("t", "t", Decimal(10))])

    with pytest.raises(MoreThanBilled, match=r"at most 1\.10 EUR, what is left of the invoice"):
        crediting.by_amount(left, amount)
    with pytest.raises(MoreThanBilled, match=r"line 1 must be above 0 and at most 1\.00 EUR"):
        crediting.by_line(left, {0: amount})


@pytest.mark.parametrize("amount", [0, -5])
def test_no_line_is_credited_below_what_was_billed_to_make_up_for_another(amount: int) -> None:
    """Together they come to something that is left; each must, too."""
    left = billed([100, 100], [])

    with pytest.raises(MoreThanBilled, match="line 1 must be above 0"):
        crediting.by_line(left, {0: amount, 1: 50})


def test_a_line_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownLine, match="no line 2; it has 1"):
        crediting.by_line(billed([100], []), {1: 5})


def test_lines_are_not_credited_above_what_a_correction_left_of_the_invoice() -> None:
    left = billed([1_000, -600], [])

    with pytest.raises(
        MoreThanBilled, match=r"come to 10\.00 EUR with their taxes.* at most 4\.00 EUR"
    ):
        crediting.by_line(left, {0: 1_000})
    after = left.after(crediting.by_line(left, {0: 400}))
    assert after.total_left == 0
    with pytest.raises(MoreThanBilled):
        crediting.by_line(after, {0: 1})
    with pytest.raises(MoreThanBilled):
        crediting.by_line(billed([100, -600], []), {0: 100})

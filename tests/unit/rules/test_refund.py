"""Refunds of a use: in reverse order, and over all of them never more than it took."""

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import money, refund
from models.rules.refund import ExceedsUse, Part

amounts = st.decimals(min_value="0.000000000001", max_value=10**20, places=12)
batch_ids = st.none() | st.integers(0, 3).map(lambda number: UUID(int=number))
uses = st.lists(st.builds(Part, batch_ids, amounts), min_size=1, max_size=6)


def total(parts: list[Part]) -> Decimal:
    with money.exact():
        return sum((part.amount for part in parts), Decimal(0))


def of_batch(parts: list[Part], batch_id: UUID | None) -> Decimal:
    return total([part for part in parts if part.batch_id == batch_id])


@given(taken=uses, cuts=st.lists(st.integers(0, 100), max_size=4))
def test_refunds_one_after_the_other_come_to_one_refund_of_all(
    taken: list[Part], cuts: list[int]
) -> None:
    whole = total(taken)
    with money.exact():
        marks = [whole * cut * Decimal("0.01") for cut in sorted(cuts)] + [whole]
    given_back: list[Part] = []
    for mark in marks:
        before = total(given_back)
        with money.exact():
            amount = mark - before
        if amount:
            parts = refund.plan(taken, before, amount)
            assert total(parts) == amount
            assert all(part.amount > 0 for part in parts)
            given_back += parts
    assert refund.refundable(taken, total(given_back)) == 0
    for batch_id in {part.batch_id for part in taken}:
        assert of_batch(given_back, batch_id) == of_batch(taken, batch_id)
    # Without the cuts, what went back is what was taken, the other way round.
    assert refund.plan(taken, Decimal(0), whole) == taken[::-1]


@given(taken=uses, amount=amounts)
def test_the_last_taken_goes_back_first(taken: list[Part], amount: Decimal) -> None:
    whole = total(taken)
    amount = min(amount, whole)

    parts = refund.plan(taken, Decimal(0), amount)

    assert [part.batch_id for part in parts] == [p.batch_id for p in taken[::-1][: len(parts)]]
    assert parts[:-1] == taken[::-1][: len(parts) - 1]


@given(taken=uses, excess=amounts)
def test_more_than_is_left_is_refused(taken: list[Part], excess: Decimal) -> None:
    with money.exact():
        amount = total(taken) + excess
    with pytest.raises(ExceedsUse) as refusal:
        refund.plan(taken, Decimal(0), amount)

    assert (refusal.value.refundable, refusal.value.requested) == (total(taken), amount)

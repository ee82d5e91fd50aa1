"""Spending credit: which batches pay, in which order, how much."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import burndown, money
from models.rules.burndown import Batch, InsufficientCredit, Policy, Slice

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

instants = st.integers(-5, 5).map(lambda days: NOW + days * DAY)
amounts = st.decimals(min_value=0, max_value=10**20, places=12)


@st.composite
def batch_lists(draw: st.DrawFn) -> list[Batch]:
    return [draw(batches(UUID(int=number))) for number in draw(st.permutations(range(6)))]


@st.composite
def batches(draw: st.DrawFn, identifier: UUID) -> Batch:
    remaining = draw(amounts)
    return Batch(
        id=identifier,
        created_at=draw(instants),
        remaining=remaining,
        held=draw(st.sampled_from([Decimal(0), remaining])),
        valid_from=draw(instants),
        expires_at=draw(st.none() | instants),
        priority=draw(st.integers(0, 2)),
    )


def batch(number: int, remaining: str = "10", **changes: object) -> Batch:
    fields: dict[str, object] = {
        "created_at": NOW - 10 * DAY,
        "held": Decimal(0),
        "valid_from": NOW - 10 * DAY,
        "expires_at": None,
    }
    return Batch(id=UUID(int=number), remaining=Decimal(remaining), **(fields | changes))


def numbers(batches: list[Batch]) -> list[int]:
    return [batch.id.int for batch in batches]


@given(batches=batch_lists(), amount=amounts, policy=st.sampled_from(Policy))
def test_a_plan_conserves_credit_and_touches_only_what_is_usable(
    batches: list[Batch], amount: Decimal, policy: Policy
) -> None:
    by_id = {batch.id: batch for batch in batches}
    with money.exact():
        amount += Decimal("0.000000000001")
        funds = sum(b.available for b in batches if burndown.usable(b, NOW))
    if funds < amount:
        with pytest.raises(InsufficientCredit) as refusal:
            burndown.plan(batches, amount, now=NOW, policy=policy)
        assert (refusal.value.available, refusal.value.requested) == (funds, amount)
        return
    slices = burndown.plan(batches, amount, now=NOW, policy=policy)
    with money.exact():
        assert sum(s.amount for s in slices) == amount
    for s in slices:
        assert burndown.usable(by_id[s.batch_id], NOW)
        assert 0 < s.amount <= by_id[s.batch_id].available


@given(batches=batch_lists(), policy=st.sampled_from(Policy), share=st.integers(1, 100))
def test_a_later_batch_pays_only_when_the_earlier_ones_are_spent(
    batches: list[Batch], policy: Policy, share: int
) -> None:
    queue = [
        b for b in burndown.order(batches, policy) if burndown.usable(b, NOW) and b.available > 0
    ]
    if not queue:
        return
    with money.exact():
        amount = sum((b.available for b in queue), Decimal(0)) * share * Decimal("0.01")
    slices = burndown.plan(batches, amount, now=NOW, policy=policy)
    assert [s.batch_id for s in slices] == [b.id for b in queue[: len(slices)]]
    for s, b in zip(slices[:-1], queue, strict=False):
        assert s.amount == b.available


@given(batches=batch_lists(), policy=st.sampled_from(Policy))
def test_the_order_does_not_depend_on_how_the_batches_arrive(
    batches: list[Batch], policy: Policy
) -> None:
    assert burndown.order(batches, policy) == burndown.order(batches[::-1], policy)


def test_the_oldest_pays_first_and_the_id_settles_a_tie() -> None:
    batches = [batch(3), batch(2), batch(1, created_at=NOW), batch(9, created_at=NOW - 20 * DAY)]
    assert numbers(burndown.order(batches, Policy.fifo)) == [9, 2, 3, 1]


def test_the_soonest_expiry_pays_first_and_never_pays_last() -> None:
    batches = [batch(1), batch(2, expires_at=NOW + 2 * DAY), batch(3, expires_at=NOW + DAY)]
    assert numbers(burndown.order(batches, Policy.soonest_expiry_first)) == [3, 2, 1]


@pytest.mark.parametrize("policy", Policy)
def test_a_lower_priority_pays_before_any_age_or_expiry(policy: Policy) -> None:
    batches = [batch(1, expires_at=NOW + DAY), batch(2, priority=-1, created_at=NOW)]
    assert numbers(burndown.order(batches, policy)) == [2, 1]


def test_valid_from_is_inside_and_expires_at_is_outside() -> None:
    one = batch(1, valid_from=NOW, expires_at=NOW + DAY)
    assert not burndown.usable(one, NOW - timedelta(microseconds=1))
    assert burndown.usable(one, NOW)
    assert burndown.usable(one, NOW + DAY - timedelta(microseconds=1))
    assert not burndown.usable(one, NOW + DAY)


def test_held_credit_is_not_spent() -> None:
    batches = [batch(1, held=Decimal(7)), batch(2)]
    assert burndown.plan(batches, Decimal(5), now=NOW, policy=Policy.fifo) == [
        Slice(UUID(int=1), Decimal(3)),
        Slice(UUID(int=2), Decimal(2)),
    ]


def test_what_is_available_keeps_every_digit() -> None:
    one = batch(1, "1" + "0" * 30, held=Decimal("0.000000000001"))
    assert one.available == Decimal("9" * 30 + "." + "9" * 12)


def test_too_little_takes_nothing_and_says_how_much_there_is() -> None:
    with pytest.raises(InsufficientCredit, match="25 requested, 20 available") as refusal:
        burndown.plan([batch(1), batch(2)], Decimal(25), now=NOW, policy=Policy.fifo)
    assert (refusal.value.available, refusal.value.requested) == (Decimal(20), Decimal(25))


def test_an_expired_and_a_future_batch_leave_nothing_available() -> None:
    batches = [batch(1, expires_at=NOW), batch(2, valid_from=NOW + DAY)]
    with pytest.raises(InsufficientCredit) as refusal:
        burndown.plan(batches, Decimal(1), now=NOW, policy=Policy.fifo)
    assert refusal.value.available == 0


def test_amounts_longer_than_the_default_context_are_planned_exactly() -> None:
    first, second = Decimal("1" * 30 + "." + "1" * 12), Decimal("2" * 30 + "." + "2" * 12)
    amount = Decimal("3" * 30 + "." + "3" * 12)
    funds = [batch(1, str(first)), batch(2, str(second))]
    assert burndown.plan(funds, amount, now=NOW, policy=Policy.fifo) == [
        Slice(UUID(int=1), first),
        Slice(UUID(int=2), second),
    ]
    too_much = Decimal("3" * 30 + "." + "3" * 11 + "4")
    with pytest.raises(InsufficientCredit):
        burndown.plan(funds, too_much, now=NOW, policy=Policy.fifo)


@pytest.mark.parametrize("text", ["0", "-1", "NaN", "Infinity"])
def test_an_amount_that_can_not_be_spent_is_refused(text: str) -> None:
    with pytest.raises(burndown.InvalidRequest, match="can not be spent"):
        burndown.plan([batch(1)], Decimal(text), now=NOW, policy=Policy.fifo)


@given(batches=batch_lists(), amount=amounts, policy=st.sampled_from(Policy))
def test_as_much_as_there_is_is_taken_in_the_same_order(
    batches: list[Batch], amount: Decimal, policy: Policy
) -> None:
    with money.exact():
        amount += Decimal("0.000000000001")
        funds = sum((b.available for b in batches if burndown.usable(b, NOW)), Decimal(0))
    wanted = min(funds, amount)

    slices = burndown.plan_up_to(batches, amount, now=NOW, policy=policy)

    assert burndown.total(slices) == wanted
    if wanted:
        assert slices == burndown.plan(batches, wanted, now=NOW, policy=policy)


slice_lists = st.lists(
    st.builds(
        Slice,
        st.integers(0, 3).map(lambda number: UUID(int=number)),
        amounts.map(lambda amount: amount + 1),
    ),
    max_size=5,
)


@given(slices=slice_lists, amount=amounts)
def test_splitting_loses_nothing_and_keeps_the_order(slices: list[Slice], amount: Decimal) -> None:
    first, rest = burndown.split(slices, amount)

    assert burndown.total(first) == min(amount, burndown.total(slices))
    with money.exact():
        assert burndown.total(first) + burndown.total(rest) == burndown.total(slices)
    # Put together again they are what they were.
    if first and rest and len(first) + len(rest) > len(slices):
        assert first[-1].batch_id == rest[0].batch_id
        with money.exact():
            whole = Slice(rest[0].batch_id, first[-1].amount + rest[0].amount)
        assert [*first[:-1], whole, *rest[1:]] == slices
    else:
        assert first + rest == slices


@given(slices=slice_lists)
def test_merging_keeps_what_each_batch_pays(slices: list[Slice]) -> None:
    merged = burndown.merged(slices)

    assert [part.batch_id for part in merged] == list(
        dict.fromkeys(part.batch_id for part in slices)
    )
    for part in merged:
        assert part.amount == burndown.total(one for one in slices if one.batch_id == part.batch_id)

"""Spending prepaid credit: which batches pay, in which order, and how much of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, assert_never
from uuid import UUID

from models.rules import money

_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


class Policy(StrEnum):
    """Which batch of equal priority pays first."""

    fifo = "fifo"
    soonest_expiry_first = "soonest_expiry_first"


@dataclass(frozen=True, slots=True)
class Batch:
    """A dated lot of credit in state ACTIVE, as far as spending needs it.

    `remaining` includes `held`, what open reservations have set aside. Valid from `valid_from` on
    and until just before `expires_at` (None: for ever). A lower `priority` pays first.
    """

    id: UUID
    created_at: datetime
    remaining: Decimal
    held: Decimal
    valid_from: datetime
    expires_at: datetime | None
    priority: int = 0

    @property
    def available(self) -> Decimal:
        """What may be spent or reserved: remaining - held, exactly."""
        with money.exact():
            return self.remaining - self.held


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a request that one batch pays."""

    batch_id: UUID
    amount: Decimal


def usable(batch: Batch, now: datetime) -> bool:
    """Whether `batch` is in its time: valid_from <= now < expires_at."""
    return batch.valid_from <= now and (batch.expires_at is None or now < batch.expires_at)


def order(batches: Iterable[Batch], policy: Policy) -> list[Batch]:
    """`batches` in the order they pay: lower priority first, then by `policy`.

    fifo is (created_at, id). soonest_expiry_first is expires_at, never last, then (created_at, id).
    """
    match policy:
        case Policy.fifo:
            return sorted(batches, key=_by_age)
        case Policy.soonest_expiry_first:
            return sorted(batches, key=_by_expiry)
        case _:
            assert_never(policy)


class InvalidRequest(ValueError):
    """The amount asked for is not a finite number above zero."""

    def __init__(self, amount: Decimal) -> None:
        super().__init__(f"amount {amount} can not be spent: it must be finite and above zero")


class InsufficientCredit(Exception):
    """The usable batches hold too little; nothing is taken.

    `available` is zero when there is nothing usable at all, else it is too little.
    """

    def __init__(self, available: Decimal, requested: Decimal) -> None:
        super().__init__(
            f"{requested} requested, {available} available: grant credit or ask for less"
        )
        self.available = available
        self.requested = requested


def plan(
    batches: Iterable[Batch], amount: Decimal, *, now: datetime, policy: Policy
) -> list[Slice]:
    """What each batch pays towards `amount`, in paying order: all of it, or nothing.

    Only batches usable at `now` pay, each at most what it has available; the slices are above zero
    and sum exactly to `amount`. Raises InsufficientCredit, and InvalidRequest unless amount > 0.
    """
    if not amount.is_finite() or amount <= 0:
        raise InvalidRequest(amount)
    funded = [batch for batch in batches if usable(batch, now) and batch.available > 0]
    with money.exact():
        available = sum((batch.available for batch in funded), Decimal(0))
        if available < amount:
            raise InsufficientCredit(available, amount)
        return _take(order(funded, policy), amount)


def plan_up_to(
    batches: Iterable[Batch], amount: Decimal, *, now: datetime, policy: Policy
) -> list[Slice]:
    """What each batch pays towards `amount`, in paying order, as far as there is credit.

    The slices are above zero and sum to `amount`, or to all that is available if that is less.
    Raises InvalidRequest unless amount > 0.
    """
    if not amount.is_finite() or amount <= 0:
        raise InvalidRequest(amount)
    funded = [batch for batch in batches if usable(batch, now) and batch.available > 0]
    with money.exact():
        return _take(order(funded, policy), amount)


def total(slices: Iterable[Slice]) -> Decimal:
    """The sum of `slices`, exactly."""
    with money.exact():
        return sum((part.amount for part in slices), Decimal(0))


def merged(slices: Iterable[Slice]) -> list[Slice]:
    """One slice for each batch of `slices`, in the order of their first ones."""
    amounts: dict[UUID, Decimal] = {}
    with money.exact():
        for part in slices:
            amounts[part.batch_id] = amounts.get(part.batch_id, Decimal(0)) + part.amount
    return [Slice(batch_id, amount) for batch_id, amount in amounts.items()]


def split(slices: Iterable[Slice], amount: Decimal) -> tuple[list[Slice], list[Slice]]:
    """The first `amount` of `slices`, and what is left of them, both in their order.

    A slice that the boundary goes through is in both. If they hold less, nothing is left.
    """
    first: list[Slice] = []
    rest: list[Slice] = []
    with money.exact():
        for part in slices:
            inside = min(part.amount, amount)
            amount -= inside
            if inside:
                first.append(Slice(part.batch_id, inside))
            if inside < part.amount:
                rest.append(Slice(part.batch_id, part.amount - inside))
    return first, rest


def _take(batches: list[Batch], amount: Decimal) -> list[Slice]:
    slices: list[Slice] = []
    for batch in batches:
        if amount == 0:
            break
        part = min(amount, batch.available)
        slices.append(Slice(batch.id, part))
        amount -= part
    return slices


def _by_age(batch: Batch) -> tuple[int, datetime, UUID]:
    return batch.priority, batch.created_at, batch.id


def _by_expiry(batch: Batch) -> tuple[int, datetime, datetime, UUID]:
    return batch.priority, batch.expires_at or _END_OF_TIME, batch.created_at, batch.id

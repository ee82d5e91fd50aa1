"""Giving back what a use took: in the reverse order, and never more than it took."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from models.rules import money


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a use: what one batch paid, or with no batch what became debt."""

    batch_id: UUID | None
    amount: Decimal


class ExceedsUse(Exception):
    """More is asked back than is left of what the use took."""

    def __init__(self, refundable: Decimal, requested: Decimal) -> None:
        super().__init__(f"{requested} requested, {refundable} can be given back: ask for less")
        self.refundable = refundable
        self.requested = requested


def refundable(taken: Sequence[Part], given_back: Decimal) -> Decimal:
    """What can still be given back of a use: all it took less what was `given_back`, exactly."""
    with money.exact():
        return sum((part.amount for part in taken), Decimal(0)) - given_back


def plan(taken: Sequence[Part], given_back: Decimal, amount: Decimal) -> list[Part]:
    """What goes back where: the last taken first, from where earlier refunds stopped.

    Args:
        taken: what the use took, in the order it took it, each above zero.
        given_back: how much of it went back before.
        amount: how much of the rest goes back now, above zero.

    Raises:
        ExceedsUse: `amount` is more than the rest.
    """
    rest = refundable(taken, given_back)
    if amount > rest:
        raise ExceedsUse(rest, amount)
    parts: list[Part] = []
    with money.exact():
        for part in reversed(taken):
            before = min(part.amount, given_back)
            given_back -= before
            now = min(part.amount - before, amount)
            amount -= now
            if now:
                parts.append(Part(part.batch_id, now))
    return parts

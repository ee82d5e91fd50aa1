"""What a refund of an order gives back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from models.rules import money
from models.rules.order import Line


@dataclass(frozen=True, slots=True)
class Left:
    """What a refund finds of a batch: units granted and taken back, and the time it was good for.

    `is_counted` is of a product whose use takes something away; of others, time is what was had.
    """

    granted: Decimal
    revoked: Decimal
    is_counted: bool
    valid_from: datetime
    expires_at: datetime | None

    def share(self, now: datetime) -> Fraction:
        """Return which part of it nobody had, from 0 to 1."""
        share = money.exact_fraction(self.revoked) / money.exact_fraction(self.granted)
        if self.is_counted or self.expires_at is None:
            return share
        whole = self.expires_at - self.valid_from
        ahead = min(max(self.expires_at - now, timedelta()), whole)
        return share * Fraction(ahead // _TICK, whole // _TICK)


def refundable(lines: Sequence[tuple[Line, Sequence[Left]]], *, now: datetime) -> list[int]:
    """Return, for each line, the price of what nobody had of it, in minor units.

    The products of an offer have equal parts in its price. The sum is rounded once, half up, and
    handed out to the lines: each gets its own rounded down or up, and never more than it cost.
    """
    exact = [
        line.amount_minor * sum((one.share(now) for one in left), Fraction(0)) / len(left)
        for line, left in lines
    ]
    return money.apportion(money.round_half_up(sum(exact, Fraction(0))), exact)


_TICK: Final = timedelta.resolution

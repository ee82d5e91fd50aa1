"""What a coupon takes off, and from which lines."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar, Final
from uuid import UUID

from models.rules import money
from models.rules.refusal import Refusal

HUNDRED: Final = 100


@dataclass(frozen=True, slots=True)
class Item:
    """A line as coupons and taxes see it."""

    amount_minor: int
    plan_key: str | None = None
    price_key: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """The lines a coupon or a tax is for: each list that is not empty must have the line's."""

    plan_keys: tuple[str, ...] = ()
    price_keys: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def covers(self, item: Item) -> bool:
        """Whether `item` is one of its lines."""
        return (
            (not self.plan_keys or item.plan_key in self.plan_keys)
            and (not self.price_keys or item.price_key in self.price_keys)
            and (not self.metrics or item.metric in self.metrics)
        )


EVERYTHING: Final = Scope()


class InvalidCoupon(Refusal):
    """A coupon takes off either a percentage or an amount."""

    code: ClassVar[str] = "coupon.invalid"


@dataclass(frozen=True, slots=True)
class Coupon:
    """What a redeemed coupon takes off: `percent`, 0 to 100, or `amount_minor`, above 0.

    Raises InvalidCoupon.
    """

    redemption_id: UUID
    coupon_key: str
    name: str
    percent: Decimal | None = None
    amount_minor: int | None = None
    scope: Scope = EVERYTHING

    def __post_init__(self) -> None:
        check_terms(self.percent, self.amount_minor)

    def of(self, base_minor: int) -> int:
        """What it takes off `base_minor`, 0 or more: rounded once, and never more than there is."""
        if self.percent is not None:
            return money.round_half_up(base_minor * Fraction(self.percent) / HUNDRED)
        return min(self.amount_minor or 0, base_minor)


def check_terms(percent: Decimal | None, amount_minor: int | None) -> None:
    """Raise InvalidCoupon unless it is either a percentage up to 100 or an amount above 0."""
    if (percent is None) == (amount_minor is None):
        raise InvalidCoupon(
            "a coupon takes off either a percentage or an amount; give one of the two",
            field="percent",
        )
    if percent is not None and not 0 < percent <= HUNDRED:
        raise InvalidCoupon(
            f"percent {percent} must be more than 0 and at most 100", field="percent"
        )
    if amount_minor is not None and amount_minor <= 0:
        raise InvalidCoupon(
            "the amount of a coupon must be at least one minor unit of its currency",
            field="amount",
        )


@dataclass(frozen=True, slots=True)
class Redemption:
    """A coupon that a tenant has from `redeemed_at` until `ended_at` (None: until further notice).

    `currency` is that of an amount, None for a percentage; `invoices` on how many it is, None for
    ever.
    """

    coupon: Coupon
    currency: str | None
    invoices: int | None
    redeemed_at: datetime
    ended_at: datetime | None

    def is_for(self, currency: str, period_end: datetime, *, used_on_others: int) -> bool:
        """Whether it is on an invoice in `currency` for a period that ends at `period_end`.

        It is on the periods that end while the tenant has it, so that an invoice made late has the
        coupons it would have had; and on so many invoices at most, of which `used_on_others` are
        used up.
        """
        held = self.redeemed_at < period_end and (
            self.ended_at is None or period_end <= self.ended_at
        )
        left = self.invoices is None or used_on_others < self.invoices
        return held and left and self.currency in (None, currency)

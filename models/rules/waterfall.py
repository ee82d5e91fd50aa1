"""From priced lines to what is owed: coupons in their order, then each tax by itself.

Every figure of the whole is rounded once and then handed out to the lines by largest remainder, so
what a reader adds up, line by line, is what the invoice says. All amounts are minor units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from models.rules import money
from models.rules.coupon import EVERYTHING, HUNDRED, Coupon, Item, Scope


@dataclass(frozen=True, slots=True)
class TaxRate:
    """A tax of `percent`, 0 or more: on top of the prices, or inside them if `inclusive`."""

    tax_key: str
    name: str
    percent: Decimal
    inclusive: bool = False
    scope: Scope = EVERYTHING


@dataclass(frozen=True, slots=True)
class Discount:
    """What one coupon took off, line by line."""

    redemption_id: UUID
    coupon_key: str
    name: str
    percent: Decimal | None
    lines_minor: tuple[int, ...]

    @property
    def amount_minor(self) -> int:
        """What it took off in all."""
        return sum(self.lines_minor)


@dataclass(frozen=True, slots=True)
class Tax:
    """What one rate comes to, line by line; `taxable_minor` is what it is a percentage of."""

    tax_key: str
    name: str
    percent: Decimal
    inclusive: bool
    taxable_minor: int
    lines_minor: tuple[int, ...]

    @property
    def amount_minor(self) -> int:
        """What it comes to in all."""
        return sum(self.lines_minor)


@dataclass(frozen=True, slots=True)
class Bill:
    """Lines with what was taken off and put on them. `tax_note` says why nothing is taxed."""

    amounts_minor: tuple[int, ...]
    discounts: tuple[Discount, ...] = ()
    taxes: tuple[Tax, ...] = ()
    tax_note: str | None = None

    @property
    def subtotal_minor(self) -> int:
        """The sum of the lines."""
        return sum(self.amounts_minor)

    @property
    def discount_minor(self) -> int:
        """The sum of what the coupons took off."""
        return sum(one.amount_minor for one in self.discounts) if self.discounts else 0

    @property
    def tax_minor(self) -> int:
        """The sum of the taxes, on top and inside."""
        return sum(one.amount_minor for one in self.taxes) if self.taxes else 0

    @property
    def included_tax_minor(self) -> int:
        """The sum of the taxes that lie inside the prices."""
        return sum(one.amount_minor for one in self.taxes if one.inclusive) if self.taxes else 0

    @property
    def total_minor(self) -> int:
        """What the invoice is about: lines less discounts, with the taxes on top."""
        on_top = self.tax_minor - self.included_tax_minor
        return self.subtotal_minor - self.discount_minor + on_top

    def net_minor(self, place: int) -> int:
        """A line after its discounts, as priced: with the taxes inside, without those on top."""
        return self.amounts_minor[place] - sum(one.lines_minor[place] for one in self.discounts)

    def gross_minor(self, place: int) -> int:
        """A line as it adds up to the total: after discounts, with every tax."""
        on_top = (one.lines_minor[place] for one in self.taxes if not one.inclusive)
        return self.net_minor(place) + sum(on_top)


def bill(
    items: Sequence[Item],
    coupons: Sequence[Coupon] = (),
    rates: Sequence[TaxRate] = (),
    *,
    tax_note: str | None = None,
) -> Bill:
    """Take the coupons off the lines, one after the other, and tax what is left.

    A coupon sees what those before it left of its lines. What it takes off is rounded once, half
    up, is never more than there is, and is spread over lines above zero in proportion to what is
    left of them; lines below zero (corrections) lessen what it is reckoned from. One that finds
    nothing is not in the answer. Each rate is rounded once by itself, half up, over all its lines,
    and spread by largest remainder. Where taxes lie inside the prices, every rate is a percentage
    of the price without them.
    """
    left = [item.amount_minor for item in items]
    discounts = []
    for coupon in coupons:
        parts = _take_off(coupon, items, left)
        if any(parts):
            left = [amount - part for amount, part in zip(left, parts, strict=True)]
            discounts.append(
                Discount(
                    coupon.redemption_id, coupon.coupon_key, coupon.name, coupon.percent, parts
                )
            )
    return Bill(
        amounts_minor=tuple(item.amount_minor for item in items),
        discounts=tuple(discounts),
        taxes=_taxes(items, left, rates),
        tax_note=tax_note,
    )


def _take_off(coupon: Coupon, items: Sequence[Item], left: Sequence[int]) -> tuple[int, ...]:
    eligible = [
        amount if coupon.scope.covers(item) else 0 for item, amount in zip(items, left, strict=True)
    ]
    weights = [Decimal(max(0, amount)) for amount in eligible]
    return tuple(money.allocate(coupon.of(max(0, sum(eligible))), weights))


def _taxes(items: Sequence[Item], left: Sequence[int], rates: Sequence[TaxRate]) -> tuple[Tax, ...]:
    if not rates:
        return ()
    covered = [[rate.scope.covers(item) for item in items] for rate in rates]
    nets = [
        Fraction(amount) / (1 + _inside(place, rates, covered) / HUNDRED)
        for place, amount in enumerate(left)
    ]
    lines = [
        _spread(
            [
                net * Fraction(rate.percent) / HUNDRED if on else Fraction(0)
                for net, on in zip(nets, covers, strict=True)
            ]
        )
        for rate, covers in zip(rates, covered, strict=True)
    ]
    inside = [
        sum(parts[place] for rate, parts in zip(rates, lines, strict=True) if rate.inclusive)
        for place in range(len(items))
    ]
    return tuple(
        Tax(
            tax_key=rate.tax_key,
            name=rate.name,
            percent=rate.percent,
            inclusive=rate.inclusive,
            taxable_minor=sum(left[place] - inside[place] for place, on in enumerate(covers) if on),
            lines_minor=parts,
        )
        for rate, covers, parts in zip(rates, covered, lines, strict=True)
    )


def _inside(place: int, rates: Sequence[TaxRate], covered: Sequence[Sequence[bool]]) -> Fraction:
    """The percentages that lie inside the price of a line."""
    return sum(
        (
            Fraction(rate.percent)
            for rate, covers in zip(rates, covered, strict=True)
            if rate.inclusive and covers[place]
        ),
        Fraction(0),
    )


def _spread(shares: Sequence[Fraction]) -> tuple[int, ...]:
    return tuple(money.apportion(money.round_half_up(sum(shares, Fraction(0))), shares))

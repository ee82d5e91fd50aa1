"""Discounts and taxes of an invoice, as tasks answer them. Amounts in minor units."""

from typing import TypedDict

from models.rules.decimals import plain
from models.rules.waterfall import Bill


class DiscountAnswer(TypedDict):
    """What a coupon takes off."""

    coupon_key: str
    name: str
    percent: str | None
    amount_minor: int


class TaxAnswer(TypedDict):
    """What a tax comes to; `inclusive`: it lies inside the prices."""

    tax_key: str
    name: str
    percent: str
    inclusive: bool
    taxable_minor: int
    amount_minor: int


class LineFigures(TypedDict):
    """A line's part of the discounts and taxes."""

    discount_minor: int
    tax_minor: int


def discounts(bill: Bill) -> list[DiscountAnswer]:
    """Return the discounts of a bill, in their order."""
    return [
        {
            "coupon_key": one.coupon_key,
            "name": one.name,
            "percent": None if one.percent is None else plain(one.percent),
            "amount_minor": one.amount_minor,
        }
        for one in bill.discounts
    ]


def taxes(bill: Bill) -> list[TaxAnswer]:
    """Return the taxes of a bill, in their order."""
    return [
        {
            "tax_key": one.tax_key,
            "name": one.name,
            "percent": plain(one.percent),
            "inclusive": one.inclusive,
            "taxable_minor": one.taxable_minor,
            "amount_minor": one.amount_minor,
        }
        for one in bill.taxes
    ]


def of_line(bill: Bill, place: int) -> LineFigures:
    """Return a line's parts of all discounts and of all taxes."""
    return {
        "discount_minor": sum(one.lines_minor[place] for one in bill.discounts),
        "tax_minor": sum(one.lines_minor[place] for one in bill.taxes),
    }

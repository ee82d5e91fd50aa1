"""Offers: what they cost, what they grant, and until when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from models.rules import decimals, expiry, money
from models.rules.expiry import ExpiryUnit
from models.rules.refusal import Refusal

LONGEST: Final[Mapping[ExpiryUnit, int]] = {
    ExpiryUnit.hours: 876_600,
    ExpiryUnit.days: 36_525,
    ExpiryUnit.months: 1_200,
    ExpiryUnit.years: 100,
}
"""A hundred years in each unit: beyond it, say forever."""

LARGEST: Final = Decimal(10) ** 18
"""What one grant stays below."""


class InvalidItem(Refusal):
    """What an offer is to grant can not be granted."""

    code: ClassVar[str] = "offer.invalid_item"


class InvalidPrice(Refusal):
    """The price has more decimals than its currency."""

    code: ClassVar[str] = "offer.invalid_price"


class NotExchangeable(Refusal):
    """The offer can not be had for units of a currency product."""

    code: ClassVar[str] = "offer.not_exchangeable"


class TooMuch(Refusal):
    """So many of the offer are more than one batch can hold."""

    code: ClassVar[str] = "offer.too_much"


@dataclass(frozen=True, slots=True)
class Item:
    """So many units of a product, valid for `value` of `period` from the grant on.

    `value` is None for a period of forever, and for no other. Raises InvalidItem.
    """

    product_key: str
    quantity: Decimal
    period: ExpiryUnit
    value: int | None

    def __post_init__(self) -> None:
        most = LONGEST.get(self.period)
        if most is None and self.value is not None:
            raise InvalidItem(
                f"item {self.product_key!r} is valid forever and has a value of {self.value}; "
                "leave the value out, or choose hours, days, months or years",
                field="items",
            )
        if most is not None and not 1 <= (self.value or 0) <= most:
            raise InvalidItem(
                f"item {self.product_key!r} is valid for {self.value} {self.period}; the value "
                f"must be from 1 to {most}",
                field="items",
            )

    def expires_at(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """When it ends if it is granted at `at` to a tenant of `zone`; None is never."""
        return expiry.ends_at(at, unit=self.period, count=self.value or 0, zone=zone)


@dataclass(frozen=True, slots=True)
class Currency:
    """What a price is in: money, by its ISO 4217 code, or a product, by its key."""

    code: str
    is_product: bool


@dataclass(frozen=True, slots=True)
class Price:
    """What one offer costs, 0 or more: in major units of money, or in units of a product.

    Raises InvalidPrice if money has more decimals than its currency.
    """

    amount: Decimal
    currency: Currency

    def __post_init__(self) -> None:
        if self.currency.is_product:
            return
        most = money.minor_unit(self.currency.code)
        if (money.exact_fraction(self.amount) * 10**most).denominator != 1:
            raise InvalidPrice(
                f"price {decimals.plain(self.amount)} {self.currency.code} must have at most "
                f"{most} decimals",
                field="price",
            )

    @property
    def text(self) -> str:
        """The amount as text; money with all decimals of its currency, as "12.30"."""
        if self.currency.is_product:
            return decimals.plain(self.amount)
        return f"{self.amount:.{money.minor_unit(self.currency.code)}f}"


@dataclass(frozen=True, slots=True)
class Offer:
    """How products are sold. `version` counts its changes."""

    sku: str
    name: str
    price: Price
    items: tuple[Item, ...]
    active: bool
    details: dict[str, Any]
    version: int


def amount(item: Item, quantity: int) -> Decimal:
    """What `quantity` offers grant of an item. Raises TooMuch from 10^18 on."""
    with money.exact():
        whole = item.quantity * quantity
    if whole >= LARGEST:
        raise TooMuch(
            f"quantity {quantity} would grant {decimals.plain(whole)} of {item.product_key!r}; it "
            "must be less than 10^18",
            field="quantity",
        )
    return whole


def units_to_pay(offer: Offer, quantity: int) -> Decimal:
    """What `quantity` offers cost, in whole units of the currency product, above 0.

    Raises NotExchangeable: the price is money, nothing, or not a whole number of units.
    """
    price, code = offer.price, offer.price.currency.code
    if not price.currency.is_product:
        raise NotExchangeable(
            f"offer {offer.sku!r} is priced in money ({price.text} {code}); only offers priced in "
            "a currency product can be exchanged",
            field="sku",
        )
    with money.exact():
        if price.amount <= 0 or price.amount % 1 != 0:
            raise NotExchangeable(
                f"offer {offer.sku!r} costs {price.text} {code}; to be exchanged, its price must "
                "be a whole number of units, 1 or more",
                field="sku",
            )
        return price.amount * quantity

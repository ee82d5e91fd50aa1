"""Orders: what they cost, what each of their events needs, and what a refund gives back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, assert_never
from uuid import UUID

from models.rules import money, offer
from models.rules.offer import Item, Offer
from models.rules.refusal import Refusal
from models.rules.states import ORDER, OrderState

LARGEST_TOTAL: Final = 10**18
"""Minor units that an order stays below."""


class MixedCurrencies(Refusal):
    """All of an order is in one currency."""

    code: ClassVar[str] = "order.mixed_currencies"


class NotInMoney(Refusal):
    """The offer is priced in a currency product; it is had by billing.exchange, not ordered."""

    code: ClassVar[str] = "order.not_in_money"


class OrderTooLarge(Refusal):
    """The order comes to more than any currency can name."""

    code: ClassVar[str] = "order.too_large"


class NotPaid(Refusal):
    """Only a paid order can be refunded."""

    code: ClassVar[str] = "order.not_paid"


class AlreadyPaid(Refusal):
    """The order was paid, by another payment, or costs nothing."""

    code: ClassVar[str] = "order.already_paid"


class AlreadyRefunded(Refusal):
    """The order was refunded: nothing can follow."""

    code: ClassVar[str] = "order.already_refunded"


class AlreadyCancelled(Refusal):
    """The order was cancelled: nothing can follow."""

    code: ClassVar[str] = "order.already_cancelled"


@dataclass(frozen=True, slots=True)
class Grant:
    """What an order's item grants of a product, for so long; its batch, once the order is paid.

    Of a refunded order: units of the batch that were taken back, that a hold kept, and that had
    lapsed by time or an earlier decision.
    """

    item: Item
    batch_id: UUID | None = None
    revoked: Decimal | None = None
    held: Decimal | None = None
    lapsed: Decimal | None = None

    @property
    def consumed(self) -> Decimal | None:
        """What was used of a batch that was refunded, paying debt included."""
        if self.revoked is None or self.held is None or self.lapsed is None:
            return None
        with money.exact():
            return self.item.quantity - self.revoked - self.held - self.lapsed


@dataclass(frozen=True, slots=True)
class Line:
    """So many of one offer, at the price and with the content it had when it was ordered."""

    sku: str
    quantity: int
    unit_price_minor: int
    grants: tuple[Grant, ...]
    refundable_minor: int | None = None

    @property
    def amount_minor(self) -> int:
        """What the line costs."""
        return self.unit_price_minor * self.quantity


@dataclass(frozen=True, slots=True)
class Payment:
    """What confirmed an order: its name where it was made, and where that is."""

    method: str
    payment_id: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands. `payment` is None before it is paid, and of one that is free."""

    id: UUID
    tenant_id: str
    state: OrderState
    currency: str
    total_minor: int
    lines: tuple[Line, ...]
    details: dict[str, Any]
    version: int
    created_at: datetime
    payment: Payment | None = None
    paid_at: datetime | None = None
    cancelled_at: datetime | None = None
    refunded_at: datetime | None = None
    refundable_minor: int | None = None
    reason: str | None = None
    actor: str | None = None


def lines_of(wanted: Sequence[tuple[Offer, int]]) -> tuple[str, tuple[Line, ...]]:
    """Return the currency of offers, each so many times, and the lines of an order of them.

    Raises:
        NotInMoney, MixedCurrencies, OrderTooLarge: they can not be ordered together.
        TooMuch: one of them would grant too much.
    """
    currency = wanted[0][0].price.currency.code
    for sold, _ in wanted:
        _check_currency(sold, currency)
    lines = tuple(
        Line(
            sold.sku, quantity, money.to_minor(sold.price.amount, currency), _grants(sold, quantity)
        )
        for sold, quantity in wanted
    )
    total = sum(line.amount_minor for line in lines)
    if total >= LARGEST_TOTAL:
        raise OrderTooLarge(
            f"the order comes to {money.format_minor(total, currency)}; it must be less than "
            f"{money.format_minor(LARGEST_TOTAL, currency)}: order less at once",
            field="items",
        )
    return currency, lines


def next_state(order: Order, event: str) -> OrderState:
    """Return where an event leads an order. Raises the refusal of its state, if nowhere."""
    target = ORDER.transitions[order.state].get(event)
    if target is not None:
        return OrderState(target)
    raise _refusal(order)


def _refusal(order: Order) -> Refusal:
    """What is said to an event that the order's state does not have."""
    match order.state:
        case OrderState.pending:
            return NotPaid(
                f"order {order.id} is not paid; cancel it with billing.cancel_order",
                field="order_id",
            )
        case OrderState.paid:
            return AlreadyPaid(
                f"order {order.id} is paid; take it back with billing.refund_order",
                field="order_id",
            )
        case OrderState.refunded:
            return AlreadyRefunded(
                f"order {order.id} was refunded; make a new one with billing.create_order",
                field="order_id",
            )
        case OrderState.cancelled:
            return AlreadyCancelled(
                f"order {order.id} was cancelled; make a new one with billing.create_order",
                field="order_id",
            )
        case _:
            assert_never(order.state)


def _grants(sold: Offer, quantity: int) -> tuple[Grant, ...]:
    return tuple(
        Grant(Item(item.product_key, offer.amount(item, quantity), item.period, item.value))
        for item in sold.items
    )


def _check_currency(sold: Offer, currency: str) -> None:
    mine = sold.price.currency
    if mine.is_product:
        raise NotInMoney(
            f"offer {sold.sku!r} is priced in {mine.code!r}; spend that on it with "
            "billing.exchange",
            field="items",
        )
    if mine.code != currency:
        raise MixedCurrencies(
            f"offer {sold.sku!r} is priced in {mine.code}, others of the order in {currency}; "
            "make an order for each currency",
            field="items",
        )

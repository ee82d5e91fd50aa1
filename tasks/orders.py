"""Orders: offers bought at the catalogue's price, paid once, cancelled before that."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models import database
from models.rules import decimals, money, trial
from models.rules import order as rules
from models.rules.offer import Offer
from models.rules.order import Order, Payment
from models.rules.refusal import Refusal
from models.rules.states import OrderState
from models.store import order, order_change, product, tenant
from tasks import contract, fields, offer_grants, ordering
from tasks.announce import announce
from tasks.ordering import OrderAnswer
from tasks.queues import Queue
from webhooks import events

MOST_ITEMS = 100
"""Lines of one order."""

PRICES = frozenset(
    {"price", "unit_price", "unit_price_minor", "amount", "amount_minor", "currency"}
)
"""What a line of an order can not say: the catalogue does."""


class EmptyOrder(Refusal):
    """An order has at least one item."""

    code: ClassVar[str] = "order.empty"


class InvalidQuantity(Refusal):
    """Of an offer 1 or more are ordered, in whole numbers."""

    code: ClassVar[str] = "order.invalid_quantity"


class PriceGiven(Refusal):
    """The caller named a price. Prices are the catalogue's, whatever a caller says."""

    code: ClassVar[str] = "order.price_given"


class TrialOrdered(Refusal):
    """A free trial is not ordered: it is granted once for an identity."""

    code: ClassVar[str] = "order.trial"


class AmountMismatch(Refusal):
    """What was paid is not what the order costs."""

    code: ClassVar[str] = "order.amount_mismatch"


class OrderedItem(BaseModel):
    """What is ordered, at the catalogue's price.

    Args:
        sku: which offer; it must be active, and priced in money.
        quantity: how many of it, 1 to 1,000,000.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: fields.Sku
    quantity: fields.Count = 1

    @model_validator(mode="before")
    @classmethod
    def _check(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in sorted(PRICES & given.keys()):
            raise PriceGiven(
                f"items.{name} can not be given: the price is the catalogue's; check it when you "
                "pay, with amount of billing.process_payment",
                field="items",
            )
        quantity = given.get("quantity", 1)
        if isinstance(quantity, int | float) and quantity < 1:
            raise InvalidQuantity(
                f"items.quantity {quantity} must be a whole number from 1 to 1,000,000",
                field="items",
            )
        return given


def _not_empty(items: Any) -> Any:
    if isinstance(items, list | tuple) and not items:
        raise EmptyOrder("items must name at least one offer", field="items")
    return items


Items = Annotated[
    list[OrderedItem], Field(min_length=1, max_length=MOST_ITEMS), BeforeValidator(_not_empty)
]


@contract.command("billing.create_order", queue=Queue.billing)
def create_order(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    items: Items,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> OrderAnswer:
    """Order offers at the price and with the content that they have now; both stay so.

    Runs when a shop sends it. The order waits for billing.process_payment; one that costs nothing
    is paid, and granted, at once. The tenant is created if nobody has introduced it. Twice is
    harmless: the same key is one order and gives the first answer again. If it dies half way there
    is no order, and the message comes back. Emits what billing.process_payment does, of a free one.

    Refused with code `order.empty`, `order.invalid_quantity`, `order.price_given`,
    `order.mixed_currencies`, `order.not_in_money`, `order.too_large`, `order.trial`,
    `offer.unknown`, `offer.inactive`, `offer.too_much` or, of a free one, `product.inactive`.

    Args:
        tenant_id: who buys.
        items: 1 to 100 offers, all priced in one currency; a price can not be given.
        metadata: kept with the order, and with the batches it grants.
    """
    wanted = [(offer_grants.get_active(session, item.sku), item.quantity) for item in items]
    currency, lines = rules.lines_of(wanted)
    _check_trials(session, [sold for sold, _ in wanted])
    tenant.ensure(session, tenant_id, now=as_of)
    made = order.make(
        session,
        tenant_id=tenant_id,
        currency=currency,
        lines=lines,
        details=metadata or {},
        now=as_of,
    )
    return ordering.answer(made if made.total_minor else ordering.confirm(session, made, now=as_of))


@contract.command("billing.process_payment", queue=Queue.billing)
def process_payment(
    session: database.Session,
    *,
    order_id: UUID,
    payment_id: fields.IdempotencyKey,
    payment_method: fields.Key64,
    amount: fields.Amount | None = None,
    currency: fields.Currency | None = None,
    as_of: fields.Instant = contract.NOW,
) -> OrderAnswer:
    """Confirm an order by its payment, and grant what it holds: one batch for each grant.

    Runs when a shop or a payment provider's webhook sends it. Credit is valid from now on, as
    billing.grant_offer counts it; what has become of the offers since they were ordered changes
    nothing. Twice is harmless: the same payment of an order is entered once, and answered with the
    paid order. If it dies half way nothing was paid or granted, and the message comes back. Emits
    billing.credits_granted for each batch and billing.order_confirmed.

    Refused with code `order.unknown`, `order.already_paid` (by another payment, or free),
    `order.already_refunded`, `order.already_cancelled`, `order.payment_conflict` (the payment is
    another order's), `order.amount_mismatch` or `product.inactive`.

    Args:
        order_id: what was paid.
        payment_id: the payment's name where it was made, 1 to 128 characters.
        payment_method: where that is, such as "stripe"; 1 to 64 characters.
        amount: what was paid, in major units, to be checked against the order's total.
        currency: what it was paid in, to be checked as well.
    """
    found = order.lock(session, order_id)
    payment = Payment(payment_method, payment_id)
    _check_amount(found, amount, currency)
    if found.state is OrderState.paid and found.payment == payment:
        return ordering.answer(found)
    rules.next_state(found, "pay")
    order_change.enter_payment(session, found, payment, now=as_of)
    return ordering.answer(ordering.confirm(session, order.get(session, order_id), now=as_of))


@contract.command("billing.cancel_order", queue=Queue.billing, scope="order_id")
def cancel_order(
    session: database.Session,
    *,
    order_id: UUID,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    reason: fields.Reason | None = None,
    actor: fields.Name = "billing.cancel_order",
    as_of: fields.Instant = contract.NOW,
) -> OrderAnswer:
    """Give up an order that was not paid; it can not be paid any more.

    Runs when a shop or an operator sends it. Twice is harmless: the same key cancels once and gives
    the first answer again. If it dies half way nothing has changed, and the message comes back.
    Emits billing.order_cancelled.

    Refused with code `order.unknown`, `order.already_paid`, `order.already_refunded` or
    `order.already_cancelled`.

    Args:
        order_id: which order.
        reason: why, 1 to 500 characters; it is kept, and not sent to subscribers.
        actor: who decided, 1 to 200 characters; neither is this.
    """
    found = order.lock(session, order_id)
    cancelled = order_change.cancel(session, found, reason=reason, actor=actor, now=as_of)
    event = events.OrderCancelled(
        tenant_id=cancelled.tenant_id,
        order_id=order_id,
        currency=cancelled.currency,
        total_minor=cancelled.total_minor,
    )
    announce(session, event, tenant_id=cancelled.tenant_id, sequence=cancelled.version, now=as_of)
    return ordering.answer(cancelled)


def _check_trials(session: database.Session, sold: Sequence[Offer]) -> None:
    """What costs nothing and is to be had once is not had by orders, as often as one likes."""
    for one in sold:
        details = (product.get(session, item.product_key).details for item in one.items)
        if one.price.amount == 0 and trial.is_trial(one, details):
            raise TrialOrdered(
                f"offer {one.sku!r} is a free trial; grant it with billing.grant_trial",
                field="items",
            )


def _check_amount(found: Order, amount: Decimal | None, currency: str | None) -> None:
    total = money.from_minor(found.total_minor, found.currency)
    if currency not in (None, found.currency) or amount not in (None, total):
        said = "" if amount is None else f"{decimals.plain(amount)} "
        raise AmountMismatch(
            f"order {found.id} costs {money.format_minor(found.total_minor, found.currency)}, the "
            f"payment is of {said}{currency or found.currency}; send the payment of this order, or "
            "give the money back",
            field="amount" if currency in (None, found.currency) else "currency",
        )

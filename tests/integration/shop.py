"""Words for stories about what is sold: a catalogue, orders, payments."""

from collections.abc import Callable, Sequence
from typing import Any

from models.rules.refusal import Refusal
from tasks.offers import set_offer
from tasks.order_refunds import refund_order
from tasks.orders import cancel_order, create_order, process_payment
from tests.integration import wallet
from tests.integration.test_credit_races import at_once

CALLS = {"product_key": "CALLS", "quantity": "100", "period": "days", "value": 30}
COINS = {"product_key": "COINS", "quantity": "7"}


def open_shop() -> None:
    """Packs of calls for 10.00 EUR, a bundle of calls and coins for 9.99, and a free taste."""
    wallet.product()
    wallet.product("COINS", is_currency=True)
    sell("pack")
    sell("bundle", price="9.99", items=[CALLS, COINS])
    sell("taste", price="0")


def sell(sku: str, **changed: Any) -> None:
    given = {"name": sku, "price": "10", "currency": "EUR", "items": [CALLS]}
    set_offer(sku=sku, **{**given, **changed})


def order(*skus: Any, key: str = "o", day: float = 0, tenant_id: str = "acme", **rest: Any) -> Any:
    """Order offers: skus, or pairs of a sku and how many."""
    items = [
        {"sku": one[0], "quantity": one[1]} if isinstance(one, tuple) else {"sku": one}
        for one in skus or ("pack",)
    ]
    return create_order(
        **{"tenant_id": tenant_id, "items": items, **rest},
        idempotency_key=key,
        as_of=wallet.at(day),
    )


def pay(ordered: Any, payment_id: str = "pay-1", *, day: float = 0, **rest: Any) -> Any:
    return process_payment(
        **{"payment_method": "stripe", **rest},
        order_id=ordered["order_id"],
        payment_id=payment_id,
        as_of=wallet.at(day),
    )


def bought(*skus: Any, key: str = "o", day: float = 0, **rest: Any) -> Any:
    """Order offers and pay for them."""
    return pay(order(*skus, key=key, day=day, **rest), f"pay-{key}", day=day)


def cancel(ordered: Any, key: str = "c", *, day: float = 0, **rest: Any) -> Any:
    return cancel_order(
        order_id=ordered["order_id"], idempotency_key=key, as_of=wallet.at(day), **rest
    )


def refund(ordered: Any, key: str = "r", *, day: float = 0, **rest: Any) -> Any:
    given = {"reason": "not wanted", **rest}
    return refund_order(
        order_id=ordered["order_id"], idempotency_key=key, as_of=wallet.at(day), **given
    )


def said(call: Callable[[], Any]) -> Any:
    """What a call answers; a refusal by its code."""
    try:
        return call()
    except Refusal as refusal:
        return refusal.code


def all_at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What calls answer that begin at the same instant; a refusal by its code."""
    return at_once(len(calls), lambda number: said(calls[number]))

"""The life cycle of an order."""

from enum import StrEnum
from typing import Final

from models.rules.states.machine import Machine


class OrderState(StrEnum):
    """Life of an order."""

    pending = "pending"
    paid = "paid"
    refunded = "refunded"
    cancelled = "cancelled"


ORDER: Final = Machine(
    name="Order",
    states=OrderState,
    initial=OrderState.pending,
    transitions={
        OrderState.pending: {"pay": OrderState.paid, "cancel": OrderState.cancelled},
        OrderState.paid: {"refund": OrderState.refunded},
        OrderState.refunded: {},
        OrderState.cancelled: {},
    },
    meaning={
        OrderState.pending: "Priced from the catalogue and waiting for its payment; nothing is "
        "granted yet.",
        OrderState.paid: "Paid by one payment and granted once; only a refund can follow.",
        OrderState.refunded: "What remained of its credit is revoked; it can not be paid again.",
        OrderState.cancelled: "Given up before it was paid; nothing follows.",
    },
)

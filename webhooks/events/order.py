"""Events of orders and trials."""

from uuid import UUID

from webhooks.events.event import Event


class OrderConfirmed(Event):
    """An order was paid, or costs nothing; each batch it grants is told as well.

    `total_minor` is in minor units. There is no payment of a free order.
    """

    topic = "billing.order_confirmed"

    tenant_id: str
    order_id: UUID
    currency: str
    total_minor: int
    skus: list[str]
    payment_method: str | None
    payment_id: str | None


class OrderCancelled(Event):
    """An order was given up before it was paid. `total_minor` is in minor units."""

    topic = "billing.order_cancelled"

    tenant_id: str
    order_id: UUID
    currency: str
    total_minor: int


class OrderRefunded(Event):
    """What remained of a paid order's credit was taken back; each batch is told as well.

    Of the total, `refundable_minor` is the price of what nobody had; both are minor units.
    """

    topic = "billing.order_refunded"

    tenant_id: str
    order_id: UUID
    currency: str
    total_minor: int
    refundable_minor: int


class TrialActivated(Event):
    """A tenant was granted an offer to try; each batch is told as well."""

    topic = "billing.trial_activated"

    tenant_id: str
    trial_id: UUID
    sku: str

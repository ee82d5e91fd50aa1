"""Events of holds on credit."""

from typing import Literal
from uuid import UUID

from webhooks.events.event import Event, Instant, Quantity


class CreditsReserved(Event):
    """Credit was set aside; `available` is left besides it."""

    topic = "billing.credits_reserved"

    tenant_id: str
    product_key: str
    reservation_id: UUID
    amount: Quantity
    balance: Quantity
    available: Quantity
    expires_at: Instant
    reason: str | None


class ReservationCommitted(Event):
    """What was used of a hold was charged; `returned` of it went back.

    Of the amount, `overdraft` became debt. `uncovered` was used beyond it and not charged.
    """

    topic = "billing.reservation_committed"

    tenant_id: str
    product_key: str
    reservation_id: UUID
    amount: Quantity
    returned: Quantity
    overdraft: Quantity
    uncovered: Quantity
    balance: Quantity


class ReservationReleased(Event):
    """What was set aside went back, on request or because its time was over."""

    topic = "billing.reservation_released"

    tenant_id: str
    product_key: str
    reservation_id: UUID
    amount: Quantity
    balance: Quantity
    reason: Literal["released", "expired"]

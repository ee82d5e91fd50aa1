"""Events of prepaid credit: granted, spent, given back, gone."""

from decimal import Decimal
from typing import Literal
from uuid import UUID

from webhooks.events.event import Event, Instant, Quantity


class CreditsGranted(Event):
    """A batch of credit was granted; `repaid` of it went to the tenant's debt at once."""

    topic = "billing.credits_granted"

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Quantity
    balance: Quantity
    expires_at: Instant | None
    source: str
    repaid: Quantity = Decimal(0)


class SubscriptionCreditsAllocated(Event):
    """A subscription got its plan's credit of one product for a billing period.

    It can be spent from the beginning of the period on. What is carried over from the period before
    is told as a batch of its own.
    """

    topic = "billing.subscription_credits_allocated"

    tenant_id: str
    subscription_id: UUID
    plan_key: str
    product_key: str
    batch_id: UUID
    amount: Quantity
    period_start: Instant
    period_end: Instant
    expires_at: Instant


class QuotaConsumed(Event):
    """Credit was spent, once per call however many batches it touched.

    `overdraft` of the amount was not there and became debt.
    """

    topic = "billing.quota_consumed"

    tenant_id: str
    product_key: str
    amount: Quantity
    balance: Quantity
    idempotency_key: str
    overdraft: Quantity = Decimal(0)


class CreditsRefunded(Event):
    """What a use took was given back, all of it or a part.

    The use is named by its reservation_id, or by the idempotency_key it was sent with.
    """

    topic = "billing.credits_refunded"

    tenant_id: str
    product_key: str
    amount: Quantity
    balance: Quantity
    reservation_id: UUID | None
    idempotency_key: str | None
    reason: str | None


class CreditsExchanged(Event):
    """Units of a currency product were given for an offer; each batch it grants is told as well."""

    topic = "billing.credits_exchanged"

    tenant_id: str
    sku: str
    quantity: int
    product_key: str
    amount: Quantity
    balance: Quantity


class CreditsAdjusted(Event):
    """A balance was corrected by hand; of one that was raised the batch is told as well."""

    topic = "billing.credits_adjusted"

    tenant_id: str
    product_key: str
    amount: Quantity
    balance: Quantity


class CreditsRevoked(Event):
    """What was left of a batch was taken back; `held` of it stays until its holds end."""

    topic = "billing.credits_revoked"

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Quantity
    held: Quantity
    balance: Quantity


class CreditsExpired(Event):
    """What remained of a batch at its expiry is gone."""

    topic = "billing.credits_expired"

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Quantity
    balance: Quantity
    expires_at: Instant


class ProductDeactivated(Event):
    """A tenant has nothing usable left of a product."""

    topic = "billing.product_deactivated"

    tenant_id: str
    product_key: str
    reason: Literal["expired", "exhausted", "revoked"]


class LowCredits(Event):
    """What is available of a product fell to a threshold or below it, once a crossing."""

    topic = "billing.low_credits"

    tenant_id: str
    product_key: str
    threshold: Quantity
    available: Quantity


class ExpiringCredits(Event):
    """A batch will end within so many days, once for each batch and number of days."""

    topic = "billing.expiring_credits"

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Quantity
    expires_at: Instant
    days: int

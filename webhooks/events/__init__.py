"""The catalogue of events: one model a topic, in a module for each subject. All are listed here.

A topic's fields are only ever added to; anything else is a new `schema_version`.
"""

from webhooks.events.body import LARGEST_BODY, Body, kinds, serialise
from webhooks.events.credit import (
    CreditsAdjusted,
    CreditsExchanged,
    CreditsExpired,
    CreditsGranted,
    CreditsRefunded,
    CreditsRevoked,
    ExpiringCredits,
    LowCredits,
    ProductDeactivated,
    QuotaConsumed,
    SubscriptionCreditsAllocated,
)
from webhooks.events.endpoint import DeliveryDead, EndpointDisabled, EndpointFailing, Ping
from webhooks.events.event import CATALOGUE, Event, Instant, Quantity, operator_topics
from webhooks.events.invoice import (
    CreditNoteCreated,
    InvoiceCreated,
    InvoiceDropped,
    InvoiceEvent,
    InvoiceFinalized,
    InvoicePaid,
    InvoiceUncollectible,
    InvoiceUpdated,
    InvoiceVoided,
    NumberedInvoiceEvent,
)
from webhooks.events.ledger import AuditFailed, TransactionCreated, TransactionError
from webhooks.events.order import OrderCancelled, OrderConfirmed, OrderRefunded, TrialActivated
from webhooks.events.provider import InvoiceSynced, InvoiceSyncFailed
from webhooks.events.referral import ReferralAttached, ReferralBonusGranted
from webhooks.events.reservation import CreditsReserved, ReservationCommitted, ReservationReleased
from webhooks.events.subscription import SubscriptionSet, SubscriptionUpgraded
from webhooks.events.tenant import BillingParked, BillingResumed, CustomersMerged, TenantErased
from webhooks.events.usage import QuotaDrifted, QuotaExceeded, UsageAggregated, UsageDrifted

__all__ = [
    "CATALOGUE",
    "LARGEST_BODY",
    "AuditFailed",
    "BillingParked",
    "BillingResumed",
    "Body",
    "CreditNoteCreated",
    "CreditsAdjusted",
    "CreditsExchanged",
    "CreditsExpired",
    "CreditsGranted",
    "CreditsRefunded",
    "CreditsReserved",
    "CreditsRevoked",
    "CustomersMerged",
    "DeliveryDead",
    "EndpointDisabled",
    "EndpointFailing",
    "Event",
    "ExpiringCredits",
    "Instant",
    "InvoiceCreated",
    "InvoiceDropped",
    "InvoiceEvent",
    "InvoiceFinalized",
    "InvoicePaid",
    "InvoiceSyncFailed",
    "InvoiceSynced",
    "InvoiceUncollectible",
    "InvoiceUpdated",
    "InvoiceVoided",
    "LowCredits",
    "NumberedInvoiceEvent",
    "OrderCancelled",
    "OrderConfirmed",
    "OrderRefunded",
    "Ping",
    "ProductDeactivated",
    "Quantity",
    "QuotaConsumed",
    "QuotaDrifted",
    "QuotaExceeded",
    "ReferralAttached",
    "ReferralBonusGranted",
    "ReservationCommitted",
    "ReservationReleased",
    "SubscriptionCreditsAllocated",
    "SubscriptionSet",
    "SubscriptionUpgraded",
    "TenantErased",
    "TransactionCreated",
    "TransactionError",
    "TrialActivated",
    "UsageAggregated",
    "UsageDrifted",
    "kinds",
    "operator_topics",
    "serialise",
]

"""The catalogue of events: one model a topic, and the bytes a subscriber gets.

A topic's fields are only ever added to; anything else is a new `schema_version`.
"""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, get_origin
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

LARGEST_BODY = 256 * 1024
"""Bytes. A larger event is stored thin: its envelope with `truncated: true` and no data."""

CATALOGUE: dict[str, type["Event"]] = {}
"""Every topic and the model of its data."""


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


Quantity = Annotated[
    Decimal,
    PlainSerializer(_plain, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}, mode="serialization"),
]
"""A decimal string without exponent, such as "12.5"."""

Instant = Annotated[
    dt.datetime,
    PlainSerializer(_utc, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""UTC, ISO 8601 with a Z."""


class Event(BaseModel):
    """The data of one topic. A subclass names its topic and is in the catalogue from then on."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_serialization_defaults_required=True,  # every field is sent
    )

    topic: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    for_operator: ClassVar[bool] = False
    """Whether only the operator's endpoints hear of it: it is about how the system does."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Enter the topic into the catalogue."""
        super().__pydantic_init_subclass__(**kwargs)
        if not cls.topic:  # a base of several topics
            return
        if cls.topic in CATALOGUE:
            raise ValueError(f"topic {cls.topic!r} is in the catalogue twice")
        CATALOGUE[cls.topic] = cls


class UsageAggregated(Event):
    """A day's total of a metric is new or has changed. `day_start` is local midnight."""

    topic = "billing.usage_aggregated"

    tenant_id: str
    metric: str
    day_start: Instant
    total: Quantity


class UsageDrifted(Event):
    """A day's total was not what its events come to: a fault. The next roll-up counts it anew."""

    topic = "billing.usage_drifted"
    for_operator = True

    tenant_id: str
    metric: str
    day_start: Instant
    stored: Quantity | None
    counted: Quantity


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


class QuotaExceeded(Event):
    """A tenant was refused for a metric's limit, or went beyond it, for the first time in a window.

    `soft`: use beyond the limit is allowed. The window begins anew at `resets_at`.
    """

    topic = "billing.quota_exceeded"

    tenant_id: str
    metric: str
    window: Literal["day", "month"]
    window_start: Instant
    resets_at: Instant
    limit: Quantity
    used: Quantity
    soft: bool


class QuotaDrifted(Event):
    """A quota's counter was not what its window's events come to: a fault. It has been mended."""

    topic = "billing.quota_drifted"
    for_operator = True

    tenant_id: str
    metric: str
    window: Literal["day", "month"]
    window_start: Instant
    stored: Quantity
    counted: Quantity


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


class ProductDeactivated(Event):
    """A tenant has nothing usable left of a product."""

    topic = "billing.product_deactivated"

    tenant_id: str
    product_key: str
    reason: Literal["expired", "exhausted", "revoked"]


class AuditFailed(Event):
    """The nightly audit found figures of a balance that should be equal and are not.

    `check` is what was compared; `batch_id`, `entry_id` and `reservation_id` say where, if it was
    one row.
    """

    topic = "billing.audit_failed"

    tenant_id: str
    product_key: str
    check: str
    batch_id: UUID | None
    entry_id: int | None
    expected: Quantity
    actual: Quantity
    advice: str
    reservation_id: UUID | None = None


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


class TransactionCreated(Event):
    """A ledger entry was written. Only where BILLING_TELL_LEDGER is set: there are very many.

    `direction` is CREDIT, DEBIT, or USE for a use that took nothing away.
    """

    topic = "billing.transaction_created"

    tenant_id: str
    product_key: str
    entry_id: int
    direction: str
    action: str
    amount: Quantity
    balance_after: Quantity
    batch_id: UUID | None
    cause_type: str
    cause_id: str


class TransactionError(Event):
    """A message that was to move credit was refused and is kept, told once however often it comes.

    Too little credit is no error but an answer. `tenant_id` is null, and only the operator hears of
    it, where the message names none.
    """

    topic = "billing.transaction_error"

    tenant_id: str | None
    operation: str
    code: str
    field: str | None
    reason: str
    rejected_message_id: int


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


class SubscriptionSet(Event):
    """A tenant was put on a plan, or the terms of it were changed.

    `quantity` are the seats it will have, from `quantity_from` on.
    """

    topic = "billing.subscription_set"

    tenant_id: str
    subscription_id: UUID
    plan_key: str
    quantity: Quantity
    effective_at: Instant
    ended_at: Instant | None
    trial_ends_at: Instant | None = None
    quantity_from: Instant | None = None


class SubscriptionUpgraded(Event):
    """A tenant changed its plan, up or down: one subscription replaces another from an instant on.

    It may lie ahead, at the end of the billing period.
    """

    topic = "billing.subscription_upgraded"

    tenant_id: str
    subscription_id: UUID
    replaced_subscription_id: UUID
    plan_key: str
    replaced_plan_key: str
    effective_at: Instant


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


class ReferralAttached(Event):
    """One tenant was brought by another, whose event this is."""

    topic = "billing.referral_attached"

    referral_id: UUID
    referrer_tenant_id: str
    referee_tenant_id: str
    program_key: str


class ReferralBonusGranted(Event):
    """Both sides of a referral got their bonus, for the referee's first paid order.

    External ids are the tenants' ids. The event is the referrer's.
    """

    topic = "billing.referral_bonus_granted"

    event: Literal["referral_bonus_granted"] = "referral_bonus_granted"
    referrer_external_id: str
    referee_external_id: str
    order_id: UUID
    idempotency_key: str


class InvoiceEvent(Event):
    """What every invoice event says. Amounts are minor units of the currency."""

    tenant_id: str
    invoice_id: UUID
    period_start: Instant
    period_end: Instant
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    line_count: int


class InvoiceCreated(InvoiceEvent):
    """An invoice was made for a closed period; it is still a draft."""

    topic = "billing.invoice.created"


class InvoiceUpdated(InvoiceEvent):
    """A draft changed: usage of its period arrived late, or its coupons or taxes changed."""

    topic = "billing.invoice.updated"


class NumberedInvoiceEvent(InvoiceEvent):
    """What is said of an invoice from its finalization on."""

    number: str
    credit_minor: int
    amount_due_minor: int


class InvoiceFinalized(NumberedInvoiceEvent):
    """An invoice got its number and will not change any more."""

    topic = "billing.invoice.finalized"

    due_at: Instant | None


class InvoiceDropped(InvoiceEvent):
    """A draft came to nothing and was withdrawn: it never gets a number."""

    topic = "billing.invoice.dropped"

    reason: str


class InvoicePaid(NumberedInvoiceEvent):
    """Nothing is due of an invoice any more: it was paid, or credited before it was."""

    topic = "billing.invoice.paid"

    paid_minor: int
    credited_minor: int


class InvoiceVoided(NumberedInvoiceEvent):
    """An invoice was withdrawn; credit that paid it was given back."""

    topic = "billing.invoice.voided"

    reason: str


class InvoiceUncollectible(NumberedInvoiceEvent):
    """An invoice was written off as a loss; a payment that comes after all still settles it."""

    topic = "billing.invoice.uncollectible"

    paid_minor: int
    credited_minor: int
    reason: str


class InvoiceSynced(Event):
    """The provider has an invoice, and all that became of it so far. Amounts are minor units.

    Told again when a payment, withdrawal or credit note has arrived there; `state` is the invoice's
    own.
    """

    topic = "billing.invoice.synced"

    tenant_id: str
    invoice_id: UUID
    number: str
    provider: str
    remote_customer_id: str
    remote_invoice_id: str
    state: str
    currency: str
    amount_due_minor: int


class InvoiceSyncFailed(Event):
    """The provider refused an invoice, or did not take it in all tries; it waits for an operator.

    `step` is what could not be done, `code` and `reason` say why.
    """

    topic = "billing.invoice.sync_failed"
    for_operator = True

    tenant_id: str
    invoice_id: UUID
    number: str
    provider: str
    step: str
    code: str
    reason: str
    attempts: int


class CreditNoteCreated(Event):
    """Part of an invoice, or all of it, was taken back. Amounts are minor units.

    Of the total, `reduced_minor` is not owed any more, `to_credit_minor` became prepaid credit, and
    `payout_minor` is to be paid back.
    """

    topic = "billing.credit_note.created"

    tenant_id: str
    credit_note_id: UUID
    number: str
    invoice_id: UUID
    invoice_number: str
    currency: str
    subtotal_minor: int
    tax_minor: int
    total_minor: int
    reduced_minor: int
    to_credit_minor: int
    payout_minor: int
    reason: str


class EndpointDisabled(Event):
    """An endpoint is sent nothing more until an operator enables it; its events are held."""

    topic = "billing.endpoint.disabled"

    endpoint_id: UUID
    reason: str


class EndpointFailing(Event):
    """An endpoint fails: its circuit opened, or nothing has arrived there for 24 or 72 hours."""

    topic = "billing.endpoint.failing"

    endpoint_id: UUID
    notice: Literal["opened", "failing_24h", "failing_72h"]
    failing_since: Instant
    failures: int


class DeliveryDead(Event):
    """A delivery spent its attempts; it is kept and waits for an operator to replay it."""

    topic = "billing.delivery.dead"

    delivery_id: int
    endpoint_id: UUID
    event_id: str
    event_type: str
    attempts: int
    outcome: str
    status: int | None


class BillingParked(Event):
    """A tenant could not be billed and is put aside, with the reason; nobody else waits for it.

    `stage` is what could not be done: invoicing, finalization or late_usage. It is tried again by
    itself, ever later, and at once after billing.retry_parked.
    """

    topic = "billing.parked"
    for_operator = True

    tenant_id: str
    stage: str
    code: str
    reason: str
    invoice_id: UUID | None


class BillingResumed(Event):
    """A tenant that was parked could be billed."""

    topic = "billing.resumed"
    for_operator = True

    tenant_id: str
    stage: str


class CustomersMerged(Event):
    """A tenant became part of another one: `source` stands for `target` from now on.

    What moved is counted; usage that is not billed yet follows.
    """

    topic = "billing.customers_merged"

    tenant_id: str
    target: str
    source: str
    merge_id: UUID
    identities: int
    batches: int
    subscriptions: int
    endpoints: int


class TenantErased(Event):
    """What is known of a tenant as a person was erased; the books were kept."""

    topic = "billing.tenant_erased"

    tenant_id: str
    identities: int


class Ping(Event):
    """A test event, sent to one endpoint on request."""

    topic = "billing.ping"

    endpoint_id: UUID


def operator_topics() -> frozenset[str]:
    """Return the topics that tenants' endpoints do not hear of."""
    return frozenset(topic for topic, event in CATALOGUE.items() if event.for_operator)


class Body(BaseModel):
    """The bytes of one event and whether they had to be stored thin."""

    model_config = ConfigDict(frozen=True)

    content: bytes
    truncated: bool


def kinds(event: type[Event]) -> dict[str, str]:
    """Return how each field of an event is written, in the order they are sent.

    One of "text", "quantity", "instant", "instant_or_null", "identifier", "integer".

    Raises:
        TypeError: a field is of another kind.
    """
    return {name: _kind(name, field.annotation) for name, field in event.model_fields.items()}


def _kind(name: str, annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "text"
    if annotation not in _KINDS:
        raise TypeError(f"field {name!r} is {annotation}, which is not written from a row yet")
    return _KINDS[annotation]


_KINDS: dict[Any, str] = {
    str: "text",
    Decimal: "quantity",
    dt.datetime: "instant",
    Instant | None: "instant_or_null",
    UUID: "identifier",
    int: "integer",
}


def serialise(
    event: Event, *, message_id: str, tenant_id: str, sequence: int, timestamp: dt.datetime
) -> Body:
    """Return an event as the compact UTF-8 JSON that is signed, stored and sent.

    Args:
        event: a model of the catalogue.
        message_id: "evt_…", the `webhook-id` for every endpoint, retry and replay.
        tenant_id: whose event it is.
        sequence: counts the events of one object, so that a receiver can tell stale from new.
        timestamp: when it happened, aware.
    """
    envelope = {
        "id": message_id,
        "type": event.topic,
        "timestamp": _utc(timestamp),
        "tenant_id": tenant_id,
        "schema_version": event.schema_version,
        "sequence": sequence,
        "data": orjson.Fragment(event.model_dump_json()),
    }
    content = orjson.dumps(envelope)
    if len(content) <= LARGEST_BODY:
        return Body(content=content, truncated=False)
    thin = orjson.dumps({**envelope, "data": {}, "truncated": True})
    return Body(content=thin, truncated=True)

"""An example of every topic: what a subscriber may really get."""

import datetime as dt
from typing import Any, Final

import orjson

from webhooks import events

HAPPENED: Final = dt.datetime(2026, 3, 1, 0, 0, 5, 123456, tzinfo=dt.UTC)

_ID: Final = "0195504d-57f5-7c1e-9b3a-3f2a6c1d4e5{}"

# One value for each name of a field: a name means the same in every topic.
_VALUES: Final[dict[str, Any]] = {
    "action": "consume",
    "actual": "120",
    "advice": "run billing audit again after the running commands have ended",
    "amount": "1250.5",
    "amount_due_minor": 12900,
    "attempts": 10,
    "available": "8749.5",
    "balance": "10000",
    "balance_after": "8749.5",
    "batch_id": _ID.format(1),
    "batches": 2,
    "cause_id": "call-1",
    "cause_type": "idempotency_key",
    "check": "balance",
    "code": "message.invalid",
    "counted": "1250",
    "credit_minor": 0,
    "credit_note_id": _ID.format(6),
    "credited_minor": 0,
    "currency": "EUR",
    "day_start": "2026-02-28T23:00:00Z",
    "days": 7,
    "delivery_id": 4711,
    "direction": "DEBIT",
    "discount_minor": 1000,
    "due_at": "2026-03-15T00:00:00Z",
    "effective_at": "2026-03-01T00:00:00Z",
    "ended_at": None,
    "endpoint_id": _ID.format(2),
    "endpoints": 1,
    "entry_id": 1027,
    "event": "referral_bonus_granted",
    "event_id": "evt_0195504d57f57c1e9b3a3f2a6c1d4e50",
    "event_type": "billing.usage_aggregated",
    "expected": "125",
    "expires_at": "2026-04-01T00:00:00Z",
    "failing_since": "2026-02-28T12:00:00Z",
    "failures": 7,
    "field": "amount",
    "held": "50",
    "idempotency_key": "call-1",
    "identities": 1,
    "invoice_id": _ID.format(3),
    "invoice_number": "2026-000017",
    "limit": "5000000",
    "line_count": 3,
    "merge_id": _ID.format(8),
    "metric": "input_tokens",
    "notice": "opened",
    "number": "2026-000017",
    "operation": "billing.consume_quota",
    "order_id": _ID.format(8),
    "outcome": "http_error",
    "overdraft": "0",
    "paid_minor": 12900,
    "payment_id": "pay-1",
    "payment_method": "stripe",
    "payout_minor": 0,
    "period_end": "2026-03-01T00:00:00Z",
    "period_start": "2026-02-01T00:00:00Z",
    "plan_key": "pro",
    "provider": "stripe",
    "product_key": "TOKENS",
    "program_key": "default",
    "quantity": 1,
    "quantity_from": "2026-03-01T00:00:00Z",
    "reduced_minor": 12900,
    "referee_external_id": "newcomer",
    "referee_tenant_id": "newcomer",
    "referral_id": _ID.format(9),
    "referrer_external_id": "acme",
    "referrer_tenant_id": "acme",
    "refundable_minor": 6450,
    "rejected_message_id": 42,
    "repaid": "0",
    "remote_customer_id": "cus_QXg1o8vcGmoR32",
    "remote_invoice_id": "in_1PgafmB7WZ01zgkW6dKueIc5",
    "replaced_plan_key": "starter",
    "replaced_subscription_id": _ID.format(7),
    "reservation_id": _ID.format(4),
    "resets_at": "2026-04-01T00:00:00Z",
    "returned": "249.5",
    "sku": "STARTER",
    "skus": ["STARTER"],
    "soft": False,
    "source": "manual",
    "stage": "invoicing",
    "state": "paid",
    "status": 503,
    "step": "finalize",
    "stored": "1249",
    "subscription_id": _ID.format(5),
    "subscriptions": 1,
    "subtotal_minor": 12000,
    "target": "acme",
    "tax_minor": 1900,
    "tenant_id": "acme",
    "threshold": "10000",
    "to_credit_minor": 0,
    "total": "1250",
    "total_minor": 12900,
    "trial_id": _ID.format("a"),
    "trial_ends_at": "2026-03-15T00:00:00Z",
    "uncovered": "0",
    "used": "5000001",
    "window": "month",
    "window_start": "2026-03-01T00:00:00Z",
}

_REASONS: Final = {
    "billing.endpoint.disabled": "failing",
    "billing.invoice.dropped": "nothing is left to be billed",
    "billing.invoice.sync_failed": "answered with status 400: this customer was deleted",
    "billing.invoice.uncollectible": "nobody pays",
    "billing.invoice.voided": "for the wrong company",
    "billing.product_deactivated": "exhausted",
    "billing.reservation_released": "released",
    "billing.credit_note.created": "a service was down",
    "billing.credits_refunded": "the call failed",
    "billing.credits_reserved": "a long job",
    "billing.parked": "price.invalid: no price of plan 'pro' is in EUR",
    "billing.transaction_error": "amount: must be greater than 0",
}


def data(event: type[events.Event]) -> events.Event:
    """Return an example of a topic's data."""
    values = {**_VALUES, "reason": _REASONS.get(event.topic)}
    return event.model_validate({name: values[name] for name in event.model_fields})


def payload(event: type[events.Event]) -> dict[str, Any]:
    """Return an example of what is sent of a topic, parsed."""
    body = events.serialise(
        data(event),
        message_id=_VALUES["event_id"],
        tenant_id="" if event.for_operator else "acme",
        sequence=3,
        timestamp=HAPPENED,
    )
    parsed: dict[str, Any] = orjson.loads(body.content)
    return parsed

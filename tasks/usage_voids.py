"""Taking back usage that was recorded by mistake."""

import datetime as dt
from typing import TypedDict

from models import database
from models.rules import decimals
from models.store import usage_void
from tasks import contract, fields
from tasks.queues import Queue


class VoidAnswer(TypedDict):
    """An event that does not count, and why not."""

    tenant_id: str
    metric: str
    idempotency_key: str
    amount: str
    at: dt.datetime
    reason: str
    actor: str | None
    voided_at: dt.datetime


@contract.command("billing.void_usage", queue=Queue.usage, once="item")
def void_usage(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    metric: fields.Metric,
    idempotency_key: fields.IdempotencyKey,
    reason: fields.Reason,
    actor: fields.Name | None = None,
    as_of: fields.Instant = contract.NOW,
) -> VoidAnswer:
    """Let a usage event count no more. The event stays, and so does why it was voided.

    Runs when a producer or an operator sends it. Its day is counted anew by the next roll-up. Its
    key stays used: the event sent again is a duplicate and does not count either. Twice is
    harmless: the answer is what was said the first time. If it dies half way nothing has changed.

    Args:
        tenant_id: of the event.
        metric: of the event.
        idempotency_key: of the event, as it was recorded.
        reason: why, 1 to 500 characters; kept.
        actor: who decided it; kept.
        as_of: when.

    Raises:
        UnknownUsage: no event was recorded under that key.
        UsageArchived: the event is of a time that is closed; correct the invoice instead.
    """
    voided = usage_void.void(
        session,
        tenant_id=tenant_id,
        metric=metric,
        idempotency_key=idempotency_key,
        reason=reason,
        actor=actor,
        now=as_of,
    )
    return {
        "tenant_id": tenant_id,
        "metric": metric,
        "idempotency_key": idempotency_key,
        "amount": decimals.plain(voided.amount),
        "at": voided.at,
        "reason": voided.reason,
        "actor": voided.actor,
        "voided_at": voided.voided_at,
    }

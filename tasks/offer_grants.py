"""Granting what is sold."""

from typing import ClassVar, TypedDict

from models import database
from models.rules import offer as rules
from models.rules.refusal import Refusal
from models.store import credit, offer, tenant
from tasks import contract, fields, granting
from tasks.queues import Queue


class InactiveOffer(Refusal):
    """The offer is not sold any more."""

    code: ClassVar[str] = "offer.inactive"


class OfferGranted(TypedDict):
    """What was granted: one batch an item, in the offer's order."""

    tenant_id: str
    sku: str
    quantity: int
    batches: list[granting.GrantedBatch]


@contract.command("billing.grant_offer", queue=Queue.billing)
def grant_offer(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    sku: fields.Sku,
    quantity: fields.Count = 1,
    source: fields.Key64,
    idempotency_key: fields.IdempotencyKey,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> OfferGranted:
    """Grant what an offer holds: one batch and one ledger entry an item.

    Runs when a producer or an operator sends it. Nothing is paid with it: that is
    billing.exchange, or an order. The tenant is created if nobody has introduced it. Twice is
    harmless: the same key is one grant and gives the first answer again. If it dies half way
    nothing was granted, and the message comes back. Emits billing.credits_granted for each batch.

    A validity of days, months or years is counted by the tenant's own clock: a month from noon on
    31 January ends at noon of its 28 February, wherever it lives.

    Refused with code `offer.unknown`, `offer.inactive`, `offer.too_much` or `product.inactive`.

    Args:
        tenant_id: who gets it.
        sku: which offer.
        quantity: how many of it, 1 to 1,000,000; each batch holds so many times its item.
        source: where it came from, 1 to 64 characters; what came from one source can be revoked
            together.
        metadata: kept with the batches and their ledger entries.
    """
    sold = get_active(session, sku)
    tenant.ensure(session, tenant_id, now=as_of)
    lots = granting.lots_of(
        sold,
        quantity=quantity,
        timezone=tenant.get(session, tenant_id).timezone,
        source=source,
        now=as_of,
    )
    granted = granting.grant(
        session,
        lots,
        tenant_id=tenant_id,
        cause=credit.Cause("billing.grant_offer", idempotency_key),
        details=metadata or {},
        now=as_of,
    )
    return {
        "tenant_id": tenant_id,
        "sku": sku,
        "quantity": quantity,
        "batches": [granting.answer(one) for one in granted],
    }


def get_active(session: database.Session, sku: str) -> rules.Offer:
    """Return an offer that is sold.

    Raises:
        UnknownOffer: there is none by that sku.
        InactiveOffer: it is not sold any more.
    """
    found = offer.get(session, sku)
    if not found.active:
        raise InactiveOffer(
            f"offer {sku!r} is not active; activate it with billing.set_offer or choose another",
            field="sku",
        )
    return found

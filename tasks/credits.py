"""Prepaid credit: granted, spent oldest first, looked up."""

import datetime as dt
from typing import Literal, TypedDict
from uuid import UUID

from models import database
from models.rules import burndown, decimals
from models.store import credit, credit_spending, tenant
from tasks import contract, fields
from tasks.announce import Announcement, announce, announce_all
from tasks.queues import Queue
from webhooks import events


class Grant(TypedDict):
    """A batch that was granted, and the balance with it."""

    batch_id: UUID
    tenant_id: str
    product_key: str
    amount: str
    balance: str
    expires_at: dt.datetime | None


class BatchDebit(TypedDict):
    """What one batch paid."""

    batch_id: UUID
    amount: str


class Consumed(TypedDict):
    """Credit was spent."""

    consumed: Literal[True]
    amount: str
    balance: str
    batches: list[BatchDebit]


class NotConsumed(TypedDict):
    """Nothing was spent: there is nothing usable, or too little."""

    consumed: Literal[False]
    reason: Literal["quota_exhausted", "insufficient_funds"]
    available: str


class BalanceAnswer(TypedDict):
    """What a tenant has of a product."""

    tenant_id: str
    product_key: str
    balance: str
    held: str
    available: str
    batches: int
    next_expiry: dt.datetime | None


@contract.command("billing.add_credits", queue=Queue.billing)
def add_credits(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Amount,
    idempotency_key: fields.IdempotencyKey,
    valid_from: fields.Instant | None = None,
    expires_at: fields.Instant | None = None,
    source: fields.Key64 = "manual",
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Grant:
    """Grant one batch of credit; the tenant is created if nobody has introduced it.

    Runs when a producer or an operator sends it. Twice is harmless: the same key is one batch and
    gives the first answer again. If it dies half way nothing was granted, and the message comes
    back. Emits billing.credits_granted.

    Refused with code `product.unknown`, `product.inactive` or `credit.never_valid`.

    Args:
        tenant_id: who gets it.
        product_key: what is granted.
        amount: units of the product, above 0, at most 12 decimals.
        valid_from: from when it can be spent; absent is now.
        expires_at: from when it can not be spent any more, after now and after valid_from; absent
            is never.
        source: where it came from, 1 to 64 characters.
        metadata: kept with the batch and its ledger entry.
    """
    tenant.ensure(session, tenant_id, now=as_of)
    granted = credit.grant(
        session,
        tenant_id=tenant_id,
        product_key=product_key,
        amount=amount,
        valid_from=valid_from,
        expires_at=expires_at,
        source=source,
        cause=credit.Cause("billing.add_credits", idempotency_key),
        details=metadata or {},
        now=as_of,
    )
    event = events.CreditsGranted(
        tenant_id=tenant_id,
        product_key=product_key,
        batch_id=granted.batch_id,
        amount=amount,
        balance=granted.balance,
        expires_at=expires_at,
        source=source,
    )
    announce(session, event, tenant_id=tenant_id, sequence=granted.version, now=as_of)
    return {
        "batch_id": granted.batch_id,
        "tenant_id": tenant_id,
        "product_key": product_key,
        "amount": decimals.plain(amount),
        "balance": decimals.plain(granted.balance),
        "expires_at": expires_at,
    }


@contract.command("billing.consume_quota", queue=Queue.billing)
def consume_quota(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Amount,
    idempotency_key: fields.IdempotencyKey,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Consumed | NotConsumed:
    """Spend credit from the oldest usable batches, all of the amount or nothing.

    Runs when a producer sends it. Twice is harmless: the same key debits once and gives the first
    answer again, a "no" as well: who tops up and asks anew uses a new key. If it dies half way
    nothing was spent, and the message comes back.

    Too little credit is an answer, not an error: `consumed` false with reason `quota_exhausted`
    (nothing usable) or `insufficient_funds` (too little). Emits billing.quota_consumed once, and
    billing.product_deactivated when it took the last that was usable. A product of type period or
    unlimited needs a usable batch; its use is entered in the ledger and takes nothing away.

    Refused with code `product.unknown`. A product that is no longer active can still be spent.

    Args:
        tenant_id: whose credit.
        product_key: of which product.
        amount: units of the product, above 0, at most 12 decimals.
        metadata: kept with the ledger entries.
    """
    debit = credit_spending.Debit(
        tenant_id=tenant_id,
        product_key=product_key,
        amount=amount,
        cause=credit.Cause("billing.consume_quota", idempotency_key),
        details=metadata or {},
    )
    try:
        spent = credit_spending.consume(session, debit, now=as_of)
    except burndown.InsufficientCredit as short:
        reason: Literal["quota_exhausted", "insufficient_funds"] = (
            "insufficient_funds" if short.available else "quota_exhausted"
        )
        available = decimals.plain(short.available)
        return {"consumed": False, "reason": reason, "available": available}
    announce_all(session, _what_spending_tells(debit, spent), now=as_of)
    return {
        "consumed": True,
        "amount": decimals.plain(amount),
        "balance": decimals.plain(spent.balance),
        "batches": [
            {"batch_id": part.batch_id, "amount": decimals.plain(part.amount)}
            for part in spent.slices
        ],
    }


@contract.command("billing.get_balance", queue=Queue.billing)
def get_balance(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    as_of: fields.Instant = contract.NOW,
) -> BalanceAnswer:
    """Tell what a tenant has of a product.

    Runs when somebody asks; it changes nothing, so twice or half way does no harm. `balance` is
    all that remains, also what is not valid yet or is over and not yet swept; `available` is what
    can be spent at that instant; `batches` and `next_expiry` are of the batches usable then. A
    tenant that never got any has zeros. Refused with code `product.unknown`.

    Args:
        tenant_id: whose credit.
        product_key: of which product.
    """
    standing = credit.get_standing(session, tenant_id=tenant_id, product_key=product_key, now=as_of)
    return {
        "tenant_id": tenant_id,
        "product_key": product_key,
        "balance": decimals.plain(standing.balance),
        "held": decimals.plain(standing.held),
        "available": decimals.plain(standing.available),
        "batches": standing.batches,
        "next_expiry": standing.next_expiry,
    }


def _what_spending_tells(
    debit: credit_spending.Debit, spent: credit_spending.Spent
) -> list[Announcement]:
    told: list[events.Event] = [
        events.QuotaConsumed(
            tenant_id=debit.tenant_id,
            product_key=debit.product_key,
            amount=debit.amount,
            balance=spent.balance,
            idempotency_key=debit.cause.id,
        )
    ]
    if spent.depleted:
        told.append(
            events.ProductDeactivated(
                tenant_id=debit.tenant_id, product_key=debit.product_key, reason="exhausted"
            )
        )
    return [Announcement(event, debit.tenant_id, spent.version) for event in told]

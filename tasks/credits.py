"""Prepaid credit: granted, spent before or after the fact, looked up."""

import datetime as dt
from typing import Literal, TypedDict
from uuid import UUID

from models import database
from models.rules import decimals
from models.store import credit, credit_account, credit_spending, tenant
from tasks import contract, credit_news, fields
from tasks.announce import announce, announce_all
from tasks.queues import Queue
from webhooks import events


class Grant(TypedDict):
    """A batch that was granted, and the balance with it."""

    batch_id: UUID
    tenant_id: str
    product_key: str
    amount: str
    repaid: str
    balance: str
    debt: str
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


class Deducted(TypedDict):
    """Credit was spent; `overdraft` of the amount was not there and became debt."""

    deducted: Literal[True]
    amount: str
    overdraft: str
    balance: str
    debt: str
    batches: list[BatchDebit]


class BalanceAnswer(TypedDict):
    """What a tenant has of a product."""

    tenant_id: str
    product_key: str
    balance: str
    held: str
    debt: str
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
    priority: fields.Priority = 0,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Grant:
    """Grant one batch of credit; the tenant is created if nobody has introduced it.

    Runs when a producer or an operator sends it. Twice is harmless: the same key is one batch and
    gives the first answer again. If it dies half way nothing was granted, and the message comes
    back. Emits billing.credits_granted.

    If the tenant is in debt and the credit is valid already, it pays the debt first: the answer
    says how much was `repaid` at once and what `debt` is left.

    Refused with code `product.unknown`, `product.inactive` or `credit.never_valid`.

    Args:
        tenant_id: who gets it.
        product_key: what is granted.
        amount: units of the product, above 0, at most 12 decimals.
        valid_from: from when it can be spent; absent is now.
        expires_at: from when it can not be spent any more, after now and after valid_from; absent
            is never.
        source: where it came from, 1 to 64 characters.
        priority: which credit is spent before other, a lower one first.
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
        priority=priority,
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
        repaid=granted.repaid,
    )
    announce(session, event, tenant_id=tenant_id, sequence=granted.version, now=as_of)
    return {
        "batch_id": granted.batch_id,
        "tenant_id": tenant_id,
        "product_key": product_key,
        "amount": decimals.plain(amount),
        "repaid": decimals.plain(granted.repaid),
        "balance": decimals.plain(granted.balance),
        "debt": decimals.plain(granted.debt),
        "expires_at": expires_at,
    }


@contract.command("billing.consume_quota", queue=Queue.billing, first=credit_account.at_first)
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
    """Spend credit from usable batches in the product's order, all of the amount or nothing.

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
        spent = credit_spending.consume(session, debit, now=as_of, ends=True)
    except credit_spending.TooLittle as short:
        reason: Literal["quota_exhausted", "insufficient_funds"] = (
            "insufficient_funds" if short.available else "quota_exhausted"
        )
        available = decimals.plain(short.available)
        announce_all(session, credit_news.of_ended(short.lapsed), now=as_of)
        return {"consumed": False, "reason": reason, "available": available}
    announce_all(session, credit_news.of_spending(debit, spent), now=as_of)
    return {
        "consumed": True,
        "amount": decimals.plain(amount),
        "balance": decimals.plain(spent.balance),
        "batches": _batches(spent),
    }


@contract.command("billing.deduct_after_service", queue=Queue.billing)
def deduct_after_service(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Amount,
    idempotency_key: fields.IdempotencyKey,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Deducted:
    """Spend credit for what was used already: what is not there becomes debt.

    Runs when a producer sends it; the tenant is created if nobody has introduced it. Twice is
    harmless: the same key debits once and gives the first answer again. If it dies half way nothing
    was spent, and the message comes back.

    It takes what is available, in the product's order, and never refuses for lack of it: the
    balance goes below zero by the debt, which the next credit that comes in pays first. Emits
    billing.quota_consumed once, and billing.product_deactivated when it took the last that was
    usable. The use of a product of type period or unlimited is only entered in the ledger.

    Refused with code `product.unknown`.

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
        cause=credit.Cause("billing.deduct_after_service", idempotency_key),
        details=metadata or {},
    )
    tenant.ensure(session, tenant_id, now=as_of)
    spent = credit_spending.deduct(session, debit, now=as_of, ends=True)
    announce_all(session, credit_news.of_spending(debit, spent), now=as_of)
    return {
        "deducted": True,
        "amount": decimals.plain(amount),
        "overdraft": decimals.plain(spent.overdraft),
        "balance": decimals.plain(spent.balance),
        "debt": decimals.plain(spent.debt),
        "batches": _batches(spent),
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
    all that remains, also what is not valid yet or is over and not yet swept, less the `debt`, so
    it may be below zero; `available` is what can be spent at that instant, never below zero;
    `batches` and `next_expiry` are of the batches usable then. A tenant that never got any has
    zeros. Refused with code `product.unknown`.

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
        "debt": decimals.plain(standing.debt),
        "available": decimals.plain(standing.available),
        "batches": standing.batches,
        "next_expiry": standing.next_expiry,
    }


def _batches(spent: credit_spending.Spent) -> list[BatchDebit]:
    return [
        {"batch_id": part.batch_id, "amount": decimals.plain(part.amount)} for part in spent.slices
    ]

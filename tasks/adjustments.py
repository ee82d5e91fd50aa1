"""Credit granted or corrected by hand, with a reason and a name."""

import datetime as dt
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypedDict

from models import database
from models.catalog import Product, ProductType
from models.credit import Action
from models.rules import decimals
from models.rules.refusal import Refusal
from models.store import credit, credit_spending, product
from tasks import contract, credit_news, fields, granting
from tasks.announce import Announcement, announce, announce_all
from tasks.queues import Queue
from webhooks import events

MANUAL = "manual"
ADJUSTMENT = "adjustment"
"""Sources of batches."""


class NotCounted(Refusal):
    """Credit of this type is not used up, so less of it means nothing."""

    code: ClassVar[str] = "credit.not_counted"


class DebitExpires(Refusal):
    """Only what is granted can expire."""

    code: ClassVar[str] = "credit.debit_expires"


class ManualGrant(TypedDict):
    """A batch that somebody granted."""

    tenant_id: str
    batch: granting.GrantedBatch


class Adjusted(TypedDict):
    """A balance was corrected. `batch` is the new one of a correction upwards."""

    adjusted: Literal[True]
    tenant_id: str
    product_key: str
    amount: str
    balance: str
    batch: granting.GrantedBatch | None


class NotAdjusted(TypedDict):
    """Nothing was taken: there is nothing usable, or too little."""

    adjusted: Literal[False]
    reason: Literal["quota_exhausted", "insufficient_funds"]
    available: str


@contract.command("billing.grant_credits", queue=Queue.billing)
def grant_credits(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Amount,
    reason: fields.Reason,
    actor: fields.Name,
    idempotency_key: fields.IdempotencyKey,
    valid_from: fields.Instant | None = None,
    expires_at: fields.Instant | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> ManualGrant:
    """Grant one batch by hand, with a reason and a name.

    Runs when an operator sends it. The batch has the source `manual`; reason and actor are kept in
    the metadata of the batch and its ledger entry. Twice is harmless: the same key is one batch and
    gives the first answer again. If it dies half way nothing was granted, and the message comes
    back. Emits billing.credits_granted.

    Refused with code `product.unknown`, `product.inactive` or `credit.never_valid`.

    Args:
        tenant_id: who gets it; created if nobody has introduced it.
        product_key: what is granted.
        amount: units of the product, above 0, at most 12 decimals.
        reason: why, 1 to 500 characters; it is not sent to subscribers.
        actor: who decided, 1 to 200 characters; neither is this.
        valid_from: from when it can be spent; absent is now.
        expires_at: from when it can not be spent any more; absent is never.
        metadata: kept with the batch and its ledger entry.
    """
    lot = granting.Lot(product_key, amount, expires_at, MANUAL, valid_from=valid_from)
    (done,) = granting.grant(
        session,
        [lot],
        tenant_id=tenant_id,
        cause=credit.Cause("billing.grant_credits", idempotency_key),
        details=_with_decision(metadata, reason, actor),
        now=as_of,
    )
    return {"tenant_id": tenant_id, "batch": granting.answer(done)}


@contract.command("billing.adjust_credits", queue=Queue.billing)
def adjust_credits(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Change,
    reason: fields.Reason,
    actor: fields.Name,
    idempotency_key: fields.IdempotencyKey,
    expires_at: fields.Instant | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Adjusted | NotAdjusted:
    """Correct a balance: up by a new batch, down by a debit of the oldest usable batches.

    Runs when an operator sends it. Either way the ledger calls it `adjust`, and keeps reason and
    actor in the metadata of its entries. Twice is harmless: the same key is one correction and
    gives the first answer again. If it dies half way nothing has changed, and the message comes
    back.

    Too little to take is an answer, not an error: `adjusted` false with reason `quota_exhausted`
    or `insufficient_funds`; all of it is taken or nothing. Emits billing.credits_adjusted; up also
    billing.credits_granted, down billing.product_deactivated with reason revoked when it took the
    last that was usable.

    Refused with code `product.unknown`, `product.inactive` (up), `credit.never_valid`,
    `credit.not_counted` (down, of a product of type period or unlimited: revoke its batch) or
    `credit.debit_expires`.

    Args:
        tenant_id: whose balance.
        product_key: of which product.
        amount: units to add (above 0) or to take (below 0), at most 12 decimals.
        reason: why, 1 to 500 characters; it is not sent to subscribers.
        actor: who decided, 1 to 200 characters; neither is this.
        expires_at: until when what is added can be spent; absent is never. Not for a debit.
        metadata: kept with the ledger entries.
    """
    found = product.get(session, product_key)
    correction = credit_spending.Debit(
        tenant_id=tenant_id,
        product_key=product_key,
        amount=amount.copy_abs(),  # abs() would round to 28 digits
        cause=credit.Cause("billing.adjust_credits", idempotency_key),
        details=_with_decision(metadata, reason, actor),
        action=Action.adjust,
    )
    if amount > 0:
        return _add(session, correction, expires_at, as_of)
    _check_debit(found, expires_at)
    return _take(session, correction, as_of)


def _add(
    session: database.Session,
    correction: credit_spending.Debit,
    expires_at: dt.datetime | None,
    now: dt.datetime,
) -> Adjusted:
    lot = granting.Lot(correction.product_key, correction.amount, expires_at, ADJUSTMENT)
    (done,) = granting.grant(
        session,
        [lot],
        tenant_id=correction.tenant_id,
        cause=correction.cause,
        details=correction.details,
        now=now,
        action=correction.action,
    )
    told = _adjusted(correction, lot.amount, done.granted.balance)
    announce(session, told, tenant_id=correction.tenant_id, sequence=done.granted.version, now=now)
    return _answer(told, granting.answer(done))


def _take(
    session: database.Session, correction: credit_spending.Debit, now: dt.datetime
) -> Adjusted | NotAdjusted:
    try:
        spent = credit_spending.consume(session, correction, now=now)
    except credit_spending.TooLittle as short:
        announce_all(session, credit_news.of_ended(short.lapsed), now=now)
        return {
            "adjusted": False,
            "reason": "insufficient_funds" if short.available else "quota_exhausted",
            "available": decimals.plain(short.available),
        }
    tenant_id = correction.tenant_id
    adjusted = _adjusted(correction, correction.amount.copy_negate(), spent.balance)
    told = [
        *credit_news.of_ended(spent.lapsed),
        Announcement(adjusted, tenant_id, spent.version),
    ]
    if spent.depleted:
        gone = events.ProductDeactivated(
            tenant_id=tenant_id, product_key=correction.product_key, reason="revoked"
        )
        told.append(Announcement(gone, tenant_id, spent.version))
    announce_all(session, told, now=now)
    return _answer(adjusted, None)


def _check_debit(found: Product, expires_at: dt.datetime | None) -> None:
    if found.type != ProductType.quantity.value:
        raise NotCounted(
            f"product {found.product_key!r} is of type {found.type!r}, of which nothing is used "
            "up; take its batch back with billing.revoke",
            field="amount",
        )
    if expires_at is not None:
        raise DebitExpires(
            f"expires_at {expires_at.isoformat()} is for what is added; leave it out of a debit",
            field="expires_at",
        )


def _with_decision(metadata: dict[str, Any] | None, reason: str, actor: str) -> dict[str, Any]:
    return {**(metadata or {}), "reason": reason, "actor": actor}


def _adjusted(
    correction: credit_spending.Debit, change: Decimal, balance: Decimal
) -> events.CreditsAdjusted:
    return events.CreditsAdjusted(
        tenant_id=correction.tenant_id,
        product_key=correction.product_key,
        amount=change,
        balance=balance,
    )


def _answer(told: events.CreditsAdjusted, batch: granting.GrantedBatch | None) -> Adjusted:
    return {
        "adjusted": True,
        "tenant_id": told.tenant_id,
        "product_key": told.product_key,
        "amount": decimals.plain(told.amount),
        "balance": decimals.plain(told.balance),
        "batch": batch,
    }

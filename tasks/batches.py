"""Taking batches back."""

from typing import ClassVar, TypedDict
from uuid import UUID

from models import database
from models.rules import decimals
from models.rules.refusal import Refusal
from models.store import credit, credit_revoking
from tasks import contract, fields
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from webhooks import events


class NothingToRevoke(Refusal):
    """No batch that could be taken back fits."""

    code: ClassVar[str] = "batch.none_to_revoke"


class NoBatchNamed(Refusal):
    """Which batches to take back was not said, or was said twice."""

    code: ClassVar[str] = "batch.not_named"


class RevokedBatch(TypedDict):
    """A batch that was taken back: `amount` is gone, `held` stays until its holds end."""

    batch_id: UUID
    product_key: str
    amount: str
    held: str
    balance: str


class RevokeAnswer(TypedDict):
    """The batches that were taken back."""

    tenant_id: str
    batches: list[RevokedBatch]


@contract.command("billing.revoke", queue=Queue.billing)
def revoke(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    batch_id: UUID | None = None,
    source: fields.Key64 | None = None,
    cause_type: fields.Key64 | None = None,
    cause_id: fields.IdempotencyKey | None = None,
    reason: fields.Reason,
    actor: fields.Name,
    idempotency_key: fields.IdempotencyKey,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> RevokeAnswer:
    """Take back a batch, or every batch of one source or one cause, with what is left of it.

    Runs when an operator sends it. What was spent stays spent. What a reservation holds stays in
    the batch until the hold ends: committed, it is paid from there; given back, it is written off.
    A batch that is used up is closed too, so that nothing can be returned to it. The ledger calls
    it `revoke`; reason and actor are kept with the batch and in the metadata of the entries. Twice
    is harmless: the same key is one decision and gives the first answer again. If it dies half way
    nothing has changed, and the message comes back. Emits billing.credits_revoked for each batch
    that had something left, and billing.product_deactivated with reason revoked when a tenant has
    nothing usable of a product since.

    Refused with code `batch.not_named`, or `batch.none_to_revoke` if no batch fits that is neither
    expired nor revoked.

    Args:
        tenant_id: whose batches.
        batch_id: this one; or
        source: every one from this source; or
        cause_type, cause_id: every one that this call granted, such as billing.grant_offer and its
            idempotency key.
        reason: why, 1 to 500 characters; it is not sent to subscribers.
        actor: who decided, 1 to 200 characters; neither is this.
        metadata: kept with the ledger entries.
    """
    outcome = credit_revoking.revoke(
        session,
        _selector(batch_id, source, cause_type, cause_id),
        credit_revoking.Decision(
            reason=reason,
            actor=actor,
            cause=credit.Cause("billing.revoke", idempotency_key),
            details=metadata or {},
        ),
        tenant_id=tenant_id,
        now=as_of,
    )
    if not outcome.revoked:
        raise NothingToRevoke(
            f"tenant {tenant_id!r} has no batch that fits and is neither expired nor revoked; "
            "billing.list_batches shows those there are",
            field="source" if source else "cause_id" if cause_id else "batch_id",
        )
    announce_all(session, what_revoking_tells(tenant_id, outcome), now=as_of)
    return {"tenant_id": tenant_id, "batches": [_revoked(one) for one in outcome.revoked]}


def what_revoking_tells(tenant_id: str, outcome: credit_revoking.Outcome) -> list[Announcement]:
    """Return the events of batches that were taken back. Reasons are not for subscribers."""
    gone = [
        Announcement(
            events.CreditsRevoked(
                tenant_id=tenant_id,
                product_key=one.product_key,
                batch_id=one.batch_id,
                amount=one.amount,
                held=one.held,
                balance=one.balance,
            ),
            tenant_id,
            one.version,
        )
        for one in outcome.revoked
        if one.amount or one.held
    ]
    deactivated = [
        Announcement(
            events.ProductDeactivated(
                tenant_id=tenant_id, product_key=product_key, reason="revoked"
            ),
            tenant_id,
            version,
        )
        for product_key, version in outcome.depleted
    ]
    return gone + deactivated


def _selector(
    batch_id: UUID | None, source: str | None, cause_type: str | None, cause_id: str | None
) -> credit_revoking.Selector:
    cause = credit.Cause(cause_type, cause_id) if cause_type and cause_id else None
    named = [one for one in (batch_id, source, cause) if one is not None]
    if len(named) != 1 or (cause is None and (cause_type or cause_id)):
        raise NoBatchNamed(
            "say which batches, in one way: batch_id, or source, or cause_type with cause_id",
            field="batch_id",
        )
    return credit_revoking.Selector([batch_id] if batch_id else None, source, cause)


def _revoked(one: credit_revoking.Revoked) -> RevokedBatch:
    return {
        "batch_id": one.batch_id,
        "product_key": one.product_key,
        "amount": decimals.plain(one.amount),
        "held": decimals.plain(one.held),
        "balance": decimals.plain(one.balance),
    }

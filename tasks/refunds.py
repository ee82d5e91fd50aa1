"""Giving back what a use took."""

from decimal import Decimal
from typing import Literal, TypedDict
from uuid import UUID

from models import database
from models.rules import decimals, refund
from models.rules.refusal import Refusal
from models.store import credit_refund, reservation
from models.store.credit_ledger import Cause
from models.store.reservation_end import CAUSE
from tasks import contract, credit_news, fields
from tasks.announce import announce_all
from tasks.queues import Queue


class UnclearUse(Refusal):
    """A refund is of exactly one use."""

    code = "credit.unclear_use"


class RefundPart(TypedDict):
    """What went back to one batch; without a batch it lessened the debt."""

    batch_id: UUID | None
    amount: str


class Refunded(TypedDict):
    """What was given back.

    `written_off` of it came to batches that had ended; `refundable` can still be given back.
    """

    refunded: Literal[True]
    product_key: str
    amount: str
    written_off: str
    refundable: str
    balance: str
    debt: str
    batches: list[RefundPart]


class NotRefunded(TypedDict):
    """Nothing was given back: the use took nothing, has it all back, or has less to give back."""

    refunded: Literal[False]
    reason: Literal["nothing_to_refund", "exceeds_use"]
    refundable: str


@contract.command("billing.refund_use", queue=Queue.billing)
def refund_use(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    reservation_id: UUID | None = None,
    consume_key: fields.IdempotencyKey | None = None,
    deduct_key: fields.IdempotencyKey | None = None,
    amount: fields.Amount | None = None,
    reason: fields.Reason | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Refunded | NotRefunded:
    """Give back what a use took, all of it or a part, to where it took it from.

    Runs when a producer or an operator sends it. Twice is harmless: the same key gives back once
    and gives the first answer again. If it dies half way nothing was given back, and the message
    comes back.

    The last taken goes back first, over all refunds of a use never more than it took. What became
    debt lessens the debt; as far as that was paid since, it comes back as a new batch that does not
    end. What comes back to a batch that has ended is written off at once. If the tenant is in debt,
    the rest pays it. Emits billing.credits_refunded, and billing.credits_expired for what was
    written off. Too much is an answer: `refunded` false with reason `exceeds_use` or
    `nothing_to_refund`.

    Refused with code `credit.unclear_use`, `credit.unknown_use` or `reservation.unknown`.

    Args:
        tenant_id: whose use.
        reservation_id: the use was charged by committing this hold.
        consume_key: the use was a billing.consume_quota with this idempotency_key.
        deduct_key: it was a billing.deduct_after_service with this one. Exactly one of the three.
        amount: how much, above 0; absent is all that was not given back yet.
        reason: why, for people to read; kept with the ledger entries.
        metadata: kept with the ledger entries.
    """
    use = _use(reservation_id, consume_key, deduct_key)
    if reservation_id is not None:
        reservation.get_of(session, reservation_id, tenant_id=tenant_id)
    details = {**({} if reason is None else {"reason": reason}), **(metadata or {})}
    try:
        done = credit_refund.give_back(
            session, tenant_id=tenant_id, use=use, amount=amount, details=details, now=as_of
        )
    except refund.ExceedsUse as excess:
        return _not_refunded(excess.refundable)
    except credit_refund.UnknownUse:
        if reservation_id is None:
            raise
        return _not_refunded(Decimal(0))  # nothing was used of the hold
    told = credit_news.of_refund(
        done, reservation_id=reservation_id, key=consume_key or deduct_key, reason=reason
    )
    announce_all(session, told, now=as_of)
    return {
        "refunded": True,
        "product_key": done.product_key,
        "amount": decimals.plain(done.amount),
        "written_off": decimals.plain(done.written_off),
        "refundable": decimals.plain(done.refundable),
        "balance": decimals.plain(done.balance),
        "debt": decimals.plain(done.debt),
        "batches": [
            {"batch_id": part.batch_id, "amount": decimals.plain(part.amount)}
            for part in done.parts
        ],
    }


def _use(reservation_id: UUID | None, consume_key: str | None, deduct_key: str | None) -> Cause:
    named = [
        Cause(type_, str(found))
        for type_, found in (
            (CAUSE, reservation_id),
            ("billing.consume_quota", consume_key),
            ("billing.deduct_after_service", deduct_key),
        )
        if found is not None
    ]
    if len(named) != 1:
        raise UnclearUse(
            "a refund is of one use; give exactly one of reservation_id, consume_key and "
            f"deduct_key, not {len(named)}"
        )
    return named[0]


def _not_refunded(refundable: Decimal) -> NotRefunded:
    return {
        "refunded": False,
        "reason": "exceeds_use" if refundable else "nothing_to_refund",
        "refundable": decimals.plain(refundable),
    }

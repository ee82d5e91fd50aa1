"""Holds on credit: reserve an estimate, then charge what it came to or give it back."""

import datetime as dt
from collections.abc import Sequence
from typing import Literal, assert_never
from uuid import UUID

from models import database
from models.rules import burndown, decimals
from models.rules.states import ReservationState
from models.store import (
    credit_account,
    credit_spending,
    reservation_charge,
    reservation_hold,
    reservation_locking,
)
from models.store.reservation_bill import Above
from tasks import contract, credit_news, fields
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from tasks.reservation_answers import (
    BatchAmount,
    Committed,
    NotCommitted,
    NotReleased,
    NotReserved,
    Released,
    Reserved,
)
from webhooks import events


@contract.command("billing.reserve_credits", queue=Queue.billing, first=credit_account.at_first)
def reserve_credits(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Amount,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    reason: fields.Reason | None = None,
    ttl_seconds: fields.HoldSeconds = 900,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Reserved | NotReserved:
    """Set credit aside for a use whose amount is not known yet, all of it or nothing.

    Runs when a producer sends it, before the work. Twice is harmless: the same key is one hold and
    gives the first answer again, a "no" as well. If it dies half way nothing was set aside, and the
    message comes back.

    Nobody else can spend what is held. It is charged by billing.commit_reserved_credits, given back
    by billing.release_reserved_credits, or goes back by itself when its time is over: exactly one
    of the three. A hold outlives its batches: what expires meanwhile can still be charged. Too
    little credit is an answer: `reserved` false with reason `quota_exhausted` or
    `insufficient_funds`. A product of type period or unlimited needs a usable batch; nothing of it
    is set aside. Emits billing.credits_reserved.

    Refused with code `product.unknown`.

    Args:
        tenant_id: whose credit.
        product_key: of which product.
        amount: units of the product, above 0, at most 12 decimals.
        reason: what for, for people to read.
        ttl_seconds: how long, 1 s to 7 days.
        metadata: kept with the reservation, and with the ledger entries when it is charged.
    """
    request = reservation_hold.Request(
        tenant_id=tenant_id,
        product_key=product_key,
        amount=amount,
        expires_at=as_of + dt.timedelta(seconds=ttl_seconds),
        reason=reason,
        details=metadata or {},
    )
    try:
        held = reservation_hold.reserve(session, request, now=as_of)
    except credit_spending.TooLittle as short:
        announce_all(session, credit_news.of_ended(short.lapsed), now=as_of)
        return {
            "reserved": False,
            "reason": "insufficient_funds" if short.available else "quota_exhausted",
            "available": decimals.plain(short.available),
        }
    event = events.CreditsReserved(
        tenant_id=tenant_id,
        product_key=product_key,
        reservation_id=held.reservation_id,
        amount=amount,
        balance=held.balance,
        available=held.available,
        expires_at=request.expires_at,
        reason=reason,
    )
    told = [*credit_news.of_ended(held.lapsed), Announcement(event, tenant_id, held.version)]
    announce_all(session, told, now=as_of)
    return {
        "reserved": True,
        "reservation_id": held.reservation_id,
        "amount": decimals.plain(amount),
        "expires_at": request.expires_at,
        "balance": decimals.plain(held.balance),
        "available": decimals.plain(held.available),
    }


@contract.command(
    "billing.commit_reserved_credits",
    queue=Queue.billing,
    scope="reservation_id",
    first=reservation_locking.at_first,
)
def commit_reserved_credits(
    session: database.Session,
    *,
    reservation_id: UUID,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    actual_amount: fields.UsedAmount | None = None,
    above: Above = Above.refuse,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Committed | NotCommitted:
    """Charge what was used of a hold; the rest of it goes back.

    Runs when a producer sends it, after the work. Twice is harmless: the same key charges once and
    gives the first answer again, and another key finds that the hold has ended. If it dies half way
    nothing was charged, and the message comes back.

    Of commit, release and the end of its time one wins; the others answer `committed` false with
    how the hold ended. What goes back to a batch that has expired meanwhile is written off at once.
    Emits billing.reservation_committed, billing.credits_expired for what was written off, and
    billing.product_deactivated when it took the last that was usable.

    Refused with code `reservation.unknown`.

    Args:
        reservation_id: the hold. An idempotency_key is unique within it.
        actual_amount: what was used, 0 or more; absent is all that was set aside, 0 gives all back.
        above: if more was used than set aside: refuse leaves the hold as it is (`above_hold`);
            take_available takes more as far as there is any, and tells what is `uncovered`;
            overdraft lets what is not there become debt.
        metadata: kept with the ledger entries, over that of the reservation.
    """
    use = reservation_charge.Use(actual_amount, above, metadata or {})
    try:
        done = reservation_charge.charge(session, reservation_id, use, now=as_of)
    except reservation_charge.AboveHold:
        return {"committed": False, "reservation_id": reservation_id, "reason": "above_hold"}
    except reservation_charge.NotHeld as late:
        if late.ended is not None:
            announce_all(session, credit_news.of_ended([late.ended]), now=as_of)
        return {
            "committed": False,
            "reservation_id": reservation_id,
            "reason": _how_it_ended(late.state),
        }
    announce_all(session, credit_news.of_commit(reservation_id, done), now=as_of)
    return {
        "committed": True,
        "reservation_id": reservation_id,
        "amount": decimals.plain(done.amount),
        "returned": decimals.plain(done.returned),
        "overdraft": decimals.plain(done.overdraft),
        "uncovered": decimals.plain(done.uncovered),
        "balance": decimals.plain(done.balance),
        "debt": decimals.plain(done.debt),
        "batches": _batches(done.slices),
    }


@contract.command(
    "billing.release_reserved_credits",
    queue=Queue.billing,
    scope="reservation_id",
    first=reservation_locking.at_first,
)
def release_reserved_credits(
    session: database.Session,
    *,
    reservation_id: UUID,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    reason: fields.Reason | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Released | NotReleased:
    """Give back all that a hold has set aside.

    Runs when a producer sends it, such as after work that failed. Twice is harmless: the same key
    gives the first answer again, and another key finds that the hold has ended. If it dies half way
    the hold goes on, and the message comes back.

    Of commit, release and the end of its time one wins; the others answer `released` false with how
    the hold ended. What goes back to a batch that has expired meanwhile is written off at once.
    Emits billing.reservation_released with reason `released` or `expired`, and
    billing.credits_expired for what was written off.

    Refused with code `reservation.unknown`.

    Args:
        reservation_id: the hold. An idempotency_key is unique within it.
        reason: why, for people to read.
    """
    state, ended = reservation_hold.release(session, reservation_id, reason=reason, now=as_of)
    if ended is not None:
        announce_all(session, credit_news.of_ended([ended]), now=as_of)
    if ended is None or state is not ReservationState.released:
        return {
            "released": False,
            "reservation_id": reservation_id,
            "reason": _how_it_ended(state),
        }
    return {
        "released": True,
        "reservation_id": reservation_id,
        "amount": decimals.plain(ended.amount),
        "balance": decimals.plain(ended.balance),
    }


def _batches(slices: Sequence[burndown.Slice]) -> list[BatchAmount]:
    return [{"batch_id": part.batch_id, "amount": decimals.plain(part.amount)} for part in slices]


def _how_it_ended(state: ReservationState) -> Literal["committed", "released", "expired"]:
    match state:
        case ReservationState.committed:
            return "committed"
        case ReservationState.released:
            return "released"
        case ReservationState.expired:
            return "expired"
        case ReservationState.held:
            raise AssertionError("a hold that goes on has not ended")
        case _:
            assert_never(state)

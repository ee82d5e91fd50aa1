"""What subscribers hear of credit that moved, whoever moved it."""

from collections.abc import Sequence
from uuid import UUID

from models.rules.states import CreditBatchState, ReservationState
from models.store import credit_spending
from models.store.credit_refund import Refunded
from models.store.reservation_charge import Committed
from models.store.reservation_end import Ended
from tasks.announce import Announcement
from webhooks import events


def of_spending(debit: credit_spending.Debit, spent: credit_spending.Spent) -> list[Announcement]:
    """Tell of a use, of the last usable credit if it took that, and of holds it found over."""
    used = events.QuotaConsumed(
        tenant_id=debit.tenant_id,
        product_key=debit.product_key,
        amount=debit.amount,
        balance=spent.balance,
        idempotency_key=debit.cause.id,
        overdraft=spent.overdraft,
    )
    told = [*of_ended(spent.lapsed), Announcement(used, debit.tenant_id, spent.version)]
    if spent.depleted:
        told.append(of_depletion(debit.tenant_id, debit.product_key, spent.version))
    return told


def of_depletion(tenant_id: str, product_key: str, version: int) -> Announcement:
    """Tell that use took the last usable credit."""
    event = events.ProductDeactivated(
        tenant_id=tenant_id, product_key=product_key, reason="exhausted"
    )
    return Announcement(event, tenant_id, version)


def of_ended(holds: Sequence[Ended]) -> list[Announcement]:
    """Tell of holds that charged nothing, and of what they gave back to expired batches."""
    return [announcement for hold in holds for announcement in _of_one(hold)]


def of_commit(reservation_id: UUID, done: Committed) -> list[Announcement]:
    """Tell of a hold that was charged, and of all that came with it."""
    event = events.ReservationCommitted(
        tenant_id=done.tenant_id,
        product_key=done.product_key,
        reservation_id=reservation_id,
        amount=done.amount,
        returned=done.returned,
        overdraft=done.overdraft,
        uncovered=done.uncovered,
        balance=done.balance,
    )
    told = [
        *of_ended(done.lapsed),
        Announcement(event, done.tenant_id, done.version),
        *_of_losses(done),
    ]
    if done.depleted:
        told.append(of_depletion(done.tenant_id, done.product_key, done.version))
    return told


def of_refund(
    done: Refunded, *, reservation_id: UUID | None, key: str | None, reason: str | None
) -> list[Announcement]:
    """Tell of what was given back of a use, and of what came to batches that had expired."""
    event = events.CreditsRefunded(
        tenant_id=done.tenant_id,
        product_key=done.product_key,
        amount=done.amount,
        balance=done.balance,
        reservation_id=reservation_id,
        idempotency_key=key,
        reason=reason,
    )
    return [Announcement(event, done.tenant_id, done.version), *_of_losses(done)]


def _of_one(hold: Ended) -> list[Announcement]:
    expired = hold.state is ReservationState.expired
    released = events.ReservationReleased(
        tenant_id=hold.tenant_id,
        product_key=hold.product_key,
        reservation_id=hold.reservation_id,
        amount=hold.amount,
        balance=hold.balance,
        reason="expired" if expired else "released",
    )
    return [Announcement(released, hold.tenant_id, hold.version), *_of_losses(hold)]


def _of_losses(end: Ended | Committed | Refunded) -> list[Announcement]:
    """Tell of what went back to batches that had expired. A revoked one was told of then."""
    return [
        Announcement(
            events.CreditsExpired(
                tenant_id=end.tenant_id,
                product_key=end.product_key,
                batch_id=loss.batch_id,
                amount=loss.amount,
                balance=end.balance,
                expires_at=loss.expires_at,
            ),
            end.tenant_id,
            end.version,
        )
        for loss in end.losses
        if loss.state is CreditBatchState.EXPIRED and loss.expires_at is not None
    ]

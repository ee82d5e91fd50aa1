"""What granting is made of: batches of an offer's items, and what is said of them."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

from models import database
from models.credit import Action, CreditBatch
from models.rules import decimals, offer, period
from models.store import credit, credit_locking, tenant
from tasks.announce import Announcement, announce_all
from webhooks import events


class GrantedBatch(TypedDict):
    """A batch that was granted, and the balance of its product with it.

    `repaid` of it went to the tenant's debt at once.
    """

    batch_id: UUID
    product_key: str
    amount: str
    repaid: str
    balance: str
    expires_at: dt.datetime | None


class BatchGiven(TypedDict):
    """A batch as it was granted, whatever has become of it."""

    batch_id: UUID
    product_key: str
    amount: str
    expires_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Lot:
    """A batch to be granted: units above 0 of a product, until when, and as what.

    `valid_from` of None is the instant of the grant, `expires_at` of None is never; `source` is
    where it comes from. A lower `priority` pays first.
    """

    product_key: str
    amount: Decimal
    expires_at: dt.datetime | None
    source: str
    valid_from: dt.datetime | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """A lot that was granted."""

    lot: Lot
    granted: credit.Granted


def lots_of(
    sold: offer.Offer, *, quantity: int, timezone: str, source: str, now: dt.datetime
) -> list[Lot]:
    """Return what `quantity` of an offer grant at `now` to a tenant of a zone, item by item.

    Raises:
        TooMuch: an item would come to 10^18 units or more.
    """
    zone = period.zone(timezone)
    return [
        Lot(item.product_key, offer.amount(item, quantity), item.expires_at(now, zone), source)
        for item in sold.items
    ]


def grant(
    session: database.Session,
    lots: Sequence[Lot],
    *,
    tenant_id: str,
    cause: credit.Cause,
    details: dict[str, Any],
    now: dt.datetime,
    action: Action = Action.grant,
) -> list[Done]:
    """Grant lots to a tenant and announce each; what comes back is in the same order.

    The tenant is created if nobody has introduced it.

    Args:
        action: what the ledger calls it.

    Raises:
        UnknownProduct, InactiveProduct: one of the products can not be granted; nothing is.
        NeverValid: one of them would be over before it could be spent; nothing is granted.
    """
    tenant.ensure(session, tenant_id, now=now)
    product_keys = {lot.product_key for lot in lots}
    if len(product_keys) > 1:
        credit_locking.lock(session, tenant_id=tenant_id, product_keys=product_keys, now=now)
    done = [
        Done(
            lot,
            credit.grant(
                session,
                tenant_id=tenant_id,
                product_key=lot.product_key,
                amount=lot.amount,
                valid_from=lot.valid_from,
                expires_at=lot.expires_at,
                priority=lot.priority,
                source=lot.source,
                cause=cause,
                details=details,
                now=now,
                action=action,
            ),
        )
        for lot in lots
    ]
    announce_all(session, [_announcement(tenant_id, one) for one in done], now=now)
    return done


def answer(done: Done) -> GrantedBatch:
    """Return what to tell the caller of a batch."""
    return {
        "batch_id": done.granted.batch_id,
        "product_key": done.lot.product_key,
        "amount": decimals.plain(done.lot.amount),
        "repaid": decimals.plain(done.granted.repaid),
        "balance": decimals.plain(done.granted.balance),
        "expires_at": done.lot.expires_at,
    }


def given(batches: Sequence[CreditBatch]) -> list[BatchGiven]:
    """Return what to tell of batches that were granted some time ago."""
    return [
        {
            "batch_id": one.id,
            "product_key": one.product_key,
            "amount": decimals.plain(one.initial_amount),
            "expires_at": one.expires_at,
        }
        for one in batches
    ]


def _announcement(tenant_id: str, done: Done) -> Announcement:
    lot, granted = done.lot, done.granted
    event = events.CreditsGranted(
        tenant_id=tenant_id,
        product_key=lot.product_key,
        batch_id=granted.batch_id,
        amount=lot.amount,
        balance=granted.balance,
        expires_at=lot.expires_at,
        source=lot.source,
        repaid=granted.repaid,
    )
    return Announcement(event, tenant_id, granted.version)

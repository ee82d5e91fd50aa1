"""Prepaid credit: what a tenant has of a product, and granting it.

Locks are taken in one order, so that no two transactions wait for each other in a circle:

1. the idempotency key of the call,
2. rows of `credit_balances`, several of them by (tenant_id, product_key): each is the lock of
   everything of one product of one tenant,
3. rows of `credit_batches`, written only under the lock of their balance: nobody waits for one.

Rows of `tenants` and `products` are only share-locked, by foreign keys; who changes one must take
FOR NO KEY UPDATE, not FOR UPDATE, or grants and spending would wait for it.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, insert, literal_column, or_, text
from sqlalchemy.orm import Session

from models.credit import Action, CreditBatch
from models.rules import ids
from models.rules.refusal import Refusal
from models.rules.states import CreditBatchState
from models.store import credit_account, credit_funds, credit_ledger, product
from models.store.credit_account import USABLE
from models.store.credit_change import Change
from models.store.credit_ledger import Cause

__all__ = [
    "Cause",
    "Granted",
    "InactiveProduct",
    "NeverValid",
    "Standing",
    "get_standing",
    "grant",
    "usable_at",
]


class InactiveProduct(Refusal):
    """The product is not granted any more. What was granted before can still be spent."""

    code: ClassVar[str] = "product.inactive"


class NeverValid(Refusal):
    """The credit would be over before it could be spent."""

    code: ClassVar[str] = "credit.never_valid"


@dataclass(frozen=True, slots=True)
class Granted:
    """A new batch, and the balance with it. `version` counts the changes of the balance.

    `repaid` of it went to the debt at once; `debt` is what is owed still.
    """

    batch_id: UUID
    balance: Decimal
    version: int
    repaid: Decimal
    debt: Decimal


@dataclass(frozen=True, slots=True)
class Standing:
    """What a tenant has of a product.

    `balance` is all that remains less the `debt`, `held` what reservations have set aside,
    `available` what can be spent now. `batches` and `next_expiry` are of the batches usable now.
    """

    balance: Decimal
    held: Decimal
    debt: Decimal
    available: Decimal
    batches: int
    next_expiry: dt.datetime | None


NOTHING = Standing(Decimal(0), Decimal(0), Decimal(0), Decimal(0), 0, None)


def usable_at(now: dt.datetime) -> ColumnElement[bool]:
    """Return the predicate of batches that hold credit to spend at `now`, as USABLE has it."""
    return and_(
        # Written out, not a parameter: only then does a prepared statement use the partial index.
        CreditBatch.state == literal_column(f"'{CreditBatchState.ACTIVE.value}'"),
        CreditBatch.valid_from <= now,
        or_(CreditBatch.expires_at.is_(None), CreditBatch.expires_at > now),
    )


def get_standing(
    session: Session, *, tenant_id: str, product_key: str, now: dt.datetime
) -> Standing:
    """Return what a tenant has of a product; zeros if nothing was ever granted.

    Raises:
        UnknownProduct: there is no product by that key.
    """
    product.get(session, product_key)
    row = session.execute(
        _STANDING, {"tenant_id": tenant_id, "product_key": product_key, "now": now}
    ).one_or_none()
    return NOTHING if row is None else Standing(*row)


def grant(
    session: Session,
    *,
    tenant_id: str,
    product_key: str,
    amount: Decimal,
    valid_from: dt.datetime | None,
    expires_at: dt.datetime | None,
    source: str,
    cause: Cause,
    details: dict[str, Any],
    now: dt.datetime,
    priority: int = 0,
    action: Action = Action.grant,
) -> Granted:
    """Make one batch of credit with its CREDIT entry. The tenant must exist.

    If the tenant is in debt and the batch is valid already, it pays the debt first.

    Args:
        amount: units of the product, above 0.
        valid_from: when it can first be spent; None is `now`.
        expires_at: from when on it can not be spent; None is never.
        source: where it came from, such as "manual".
        priority: a lower one is spent first.
        action: what its entry says.

    Raises:
        UnknownProduct, InactiveProduct: the product can not be granted.
        NeverValid: `expires_at` is not after both `now` and `valid_from`.
    """
    if not product.get(session, product_key).active:
        raise InactiveProduct(
            f"product {product_key!r} is not active; activate it with billing.set_product or "
            "grant another one",
            field="product_key",
        )
    begins = valid_from or now
    if expires_at is not None and expires_at <= max(now, begins):
        raise NeverValid(
            f"expires_at {expires_at.isoformat()} must be after now ({now.isoformat()}) and after "
            f"valid_from ({begins.isoformat()})",
            field="expires_at",
        )
    account = credit_account.lock_or_make(
        session, tenant_id=tenant_id, product_key=product_key, now=now
    )
    batch_id = ids.uuid7(now)
    session.execute(
        insert(CreditBatch).values(
            id=batch_id,
            tenant_id=account.tenant_id,
            product_key=product_key,
            initial_amount=amount,
            remaining_amount=amount,
            priority=priority,
            valid_from=begins,
            expires_at=expires_at,
            source=source,
            created_at=now,
            details=details,
        )
    )
    change = Change()
    change.grant(batch_id, amount, action)
    credit_ledger.write(session, account, change, cause=cause, details=details, now=now)
    repaid = credit_funds.settle_debt(session, account, cause=cause, now=now)
    return Granted(batch_id, account.balance, account.version, repaid, account.debt)


# One statement, one snapshot: the balance and its batches can not be of different instants. A hold
# whose time is over counts no more, swept or not, and what is owed can not be spent.
_STANDING = text(f"""
WITH balance AS (
    SELECT balance.*, product.type
    FROM credit_balances AS balance JOIN products AS product USING (product_key)
    WHERE tenant_id = :tenant_id AND product_key = :product_key
), lapsed AS (
    SELECT slice.batch_id, sum(slice.amount) AS amount
    FROM balance
    JOIN reservations AS reservation USING (tenant_id, product_key)
    JOIN reservation_slices AS slice ON slice.reservation_id = reservation.id
    WHERE balance.type = 'quantity' AND balance.held > 0
      AND reservation.state = 'held' AND reservation.expires_at <= :now
    GROUP BY slice.batch_id
), usable AS (
    SELECT coalesce(sum(batch.remaining_amount - batch.held_amount + coalesce(lapsed.amount, 0)), 0)
               AS free,
           count(*) AS batches, min(batch.expires_at) AS next_expiry
    FROM credit_batches AS batch LEFT JOIN lapsed ON lapsed.batch_id = batch.id
    WHERE batch.tenant_id = :tenant_id AND batch.product_key = :product_key AND {USABLE}
)
SELECT balance.balance, balance.held - coalesce((SELECT sum(amount) FROM lapsed), 0), balance.debt,
       greatest(usable.free - balance.debt, 0), usable.batches, usable.next_expiry
FROM balance CROSS JOIN usable
""")  # noqa: S608 (a constant of another module)

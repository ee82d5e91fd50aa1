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

from sqlalchemy import ColumnElement, and_, func, insert, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from models.credit import Action, CreditBalance, CreditBatch, Direction, LedgerEntry
from models.rules import ids
from models.rules.refusal import Refusal
from models.rules.states import CreditBatchState
from models.store import product


class InactiveProduct(Refusal):
    """The product is not granted any more. What was granted before can still be spent."""

    code: ClassVar[str] = "product.inactive"


class NeverValid(Refusal):
    """The credit would be over before it could be spent."""

    code: ClassVar[str] = "credit.never_valid"


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a ledger entry: a kind, such as a command's name, and which one of that kind."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A new batch, and the balance with it. `version` counts the changes of the balance."""

    batch_id: UUID
    balance: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a tenant has of a product.

    `balance` is all that remains, `held` what reservations have set aside of it, `available` what
    can be spent now. `batches` and `next_expiry` are of the batches usable now.
    """

    balance: Decimal
    held: Decimal
    available: Decimal
    batches: int
    next_expiry: dt.datetime | None


def usable_at(now: dt.datetime) -> ColumnElement[bool]:
    """Return the predicate of batches that hold credit to spend at `now`; every reader uses it.

    `models.rules.burndown.usable` says the same of the times in Python.
    """
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
    free = func.sum(CreditBatch.remaining_amount - CreditBatch.held_amount)
    # One statement, one snapshot: the balance and its batches can not be of different instants.
    row = session.execute(
        select(
            CreditBalance.balance,
            CreditBalance.held,
            func.coalesce(free, 0).label("available"),
            func.count(CreditBatch.id).label("batches"),
            func.min(CreditBatch.expires_at).label("next_expiry"),
        )
        .outerjoin(
            CreditBatch,
            and_(
                CreditBatch.tenant_id == CreditBalance.tenant_id,
                CreditBatch.product_key == CreditBalance.product_key,
                usable_at(now),
            ),
        )
        .where(
            CreditBalance.tenant_id == tenant_id,
            CreditBalance.product_key == product_key,
        )
        .group_by(CreditBalance.tenant_id, CreditBalance.product_key)
    ).one_or_none()
    if row is None:
        return Standing(Decimal(0), Decimal(0), Decimal(0), 0, None)
    return Standing(row.balance, row.held, row.available, row.batches, row.next_expiry)


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

    Args:
        amount: units of the product, above 0.
        valid_from: when it can first be spent; None is `now`.
        expires_at: from when on it can not be spent; None is never.
        source: where it came from, such as "manual".
        priority: a lower one pays first.
        action: what the ledger calls it.

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
    balance, version = _raise_balance(session, tenant_id, product_key, amount, now)
    batch_id = ids.uuid7(now)
    session.execute(
        insert(CreditBatch).values(
            id=batch_id,
            tenant_id=tenant_id,
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
    session.execute(
        insert(LedgerEntry).values(
            tenant_id=tenant_id,
            product_key=product_key,
            direction=Direction.CREDIT.value,
            amount=amount,
            action=action.value,
            batch_id=batch_id,
            balance_after=balance,
            cause_type=cause.type,
            cause_id=cause.id,
            details=details,
            created_at=now,
        )
    )
    return Granted(batch_id, balance, version)


def _raise_balance(
    session: Session, tenant_id: str, product_key: str, amount: Decimal, now: dt.datetime
) -> tuple[Decimal, int]:
    """Lock the balance, made if need be, and add to it; return the new balance and version."""
    row = session.execute(
        pg_insert(CreditBalance)
        .values(
            tenant_id=tenant_id, product_key=product_key, balance=amount, version=1, updated_at=now
        )
        .on_conflict_do_update(
            index_elements=["tenant_id", "product_key"],
            set_={
                "balance": CreditBalance.balance + amount,
                "version": CreditBalance.version + 1,
                "updated_at": now,
            },
        )
        .returning(CreditBalance.balance, CreditBalance.version)
    ).one()
    return row.balance, row.version

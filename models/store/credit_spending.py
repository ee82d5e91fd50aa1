"""Spending prepaid credit: decided by models.rules.burndown, locked and written here."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from models.catalog import Product, ProductType
from models.credit import Action, CreditBalance, CreditBatch, Direction, LedgerEntry
from models.rules import burndown, money
from models.store import product
from models.store.credit import Cause, usable_at

FIRST_LOOK = 32
"""Batches read before all of a balance's: spending seldom needs more than the oldest few."""


@dataclass(frozen=True, slots=True)
class Debit:
    """What to take: `amount` units above 0 of a tenant's product, and why.

    `action` is what the ledger calls it.
    """

    tenant_id: str
    product_key: str
    amount: Decimal
    cause: Cause
    details: dict[str, Any]
    action: Action = Action.consume


@dataclass(frozen=True, slots=True)
class Spent:
    """What each batch paid, and the balance after it.

    `version` counts the changes of the balance. `depleted`: this took the last that was usable.
    """

    slices: Sequence[burndown.Slice]
    balance: Decimal
    version: int
    depleted: bool


def consume(session: Session, debit: Debit, *, now: dt.datetime) -> Spent:
    """Spend from the oldest usable batches, all of the amount or nothing.

    A product of type period or unlimited only needs a usable batch: its use is entered in the
    ledger and takes nothing away.

    Raises:
        UnknownProduct: there is no product by that key.
        InsufficientCredit: the usable batches hold too little, or there are none.
    """
    locked = _lock_balance(session, debit)
    if locked is None:
        product.get(session, debit.product_key)
        raise burndown.InsufficientCredit(Decimal(0), debit.amount)
    if locked.type == ProductType.quantity.value:
        return _spend(session, debit, now)
    return _use(session, debit, locked.balance, now)


def _lock_balance(session: Session, debit: Debit) -> Row[Decimal, str] | None:
    """Lock the balance and return it with the product's type; None if nothing was ever granted."""
    return session.execute(
        select(CreditBalance.balance, Product.type)
        .join(Product, Product.product_key == CreditBalance.product_key)
        .where(
            CreditBalance.tenant_id == debit.tenant_id,
            CreditBalance.product_key == debit.product_key,
        )
        # The lock of all that follows; of the balance only, a product's row is everybody's.
        .with_for_update(of=CreditBalance)
    ).one_or_none()


def _spend(session: Session, debit: Debit, now: dt.datetime) -> Spent:
    slices, depleted = _plan(session, debit, now)
    row = session.execute(
        _SPEND,
        {
            "tenant_id": debit.tenant_id,
            "product_key": debit.product_key,
            "amount": debit.amount,
            "batch_ids": [part.batch_id for part in slices],
            "amounts": [part.amount for part in slices],
            "depleted": depleted,
            "action": debit.action.value,
            "cause_type": debit.cause.type,
            "cause_id": debit.cause.id,
            "details": debit.details,
            "now": now,
        },
    ).one()
    return Spent(slices, row.balance, row.version, depleted)


def _plan(session: Session, debit: Debit, now: dt.datetime) -> tuple[list[burndown.Slice], bool]:
    """Return what each batch pays, and whether nothing usable is left then.

    If the oldest few hold more than enough, those behind them change neither answer.
    """
    batches = _usable_batches(session, debit, now, at_most=FIRST_LOOK)
    with money.exact():
        ample = sum(batch.available for batch in batches) > debit.amount
    if not ample and len(batches) == FIRST_LOOK:
        batches = _usable_batches(session, debit, now, at_most=None)
    slices = burndown.plan(batches, debit.amount, now=now, policy=burndown.Policy.fifo)
    with money.exact():
        # Credit in a hold counts as left: it may come back.
        depleted = sum(batch.remaining for batch in batches) == debit.amount
    return slices, depleted


def _usable_batches(
    session: Session, debit: Debit, now: dt.datetime, *, at_most: int | None
) -> list[burndown.Batch]:
    """Return batches of the locked balance in the order they pay."""
    rows = session.execute(
        select(
            CreditBatch.id,
            CreditBatch.created_at,
            CreditBatch.remaining_amount,
            CreditBatch.held_amount,
            CreditBatch.valid_from,
            CreditBatch.expires_at,
            CreditBatch.priority,
        )
        .where(
            CreditBatch.tenant_id == debit.tenant_id,
            CreditBatch.product_key == debit.product_key,
            usable_at(now),
        )
        .order_by(CreditBatch.priority, CreditBatch.created_at, CreditBatch.id)
        .limit(at_most)
    )
    return [burndown.Batch(*row) for row in rows]


def _use(session: Session, debit: Debit, balance: Decimal, now: dt.datetime) -> Spent:
    """Record a use that takes nothing away, on the batch that allows it."""
    allowing = _usable_batches(session, debit, now, at_most=1)
    if not allowing:
        raise burndown.InsufficientCredit(Decimal(0), debit.amount)
    version = session.scalars(
        update(CreditBalance)
        .where(
            CreditBalance.tenant_id == debit.tenant_id,
            CreditBalance.product_key == debit.product_key,
        )
        .values(version=CreditBalance.version + 1, updated_at=now)
        .returning(CreditBalance.version)
    ).one()
    session.execute(
        insert(LedgerEntry).values(
            tenant_id=debit.tenant_id,
            product_key=debit.product_key,
            direction=Direction.USE.value,
            amount=debit.amount,
            action=debit.action.value,
            batch_id=allowing[0].id,
            balance_after=balance,
            cause_type=debit.cause.type,
            cause_id=debit.cause.id,
            details=debit.details,
            created_at=now,
        )
    )
    slices = [burndown.Slice(allowing[0].id, debit.amount)]
    return Spent(slices, balance, version, depleted=False)


# One statement for the batches, the balance and the entries: a call costs one round trip here
# however many batches pay. The amounts were planned under the balance's lock, which is still held.
_SPEND = text("""
WITH slice AS (
    SELECT batch_id, amount, nth, sum(amount) OVER (ORDER BY nth) AS so_far
    FROM unnest(CAST(:batch_ids AS uuid[]), CAST(:amounts AS numeric[]))
        WITH ORDINALITY AS given (batch_id, amount, nth)
), batch AS (
    UPDATE credit_batches AS batch
    SET remaining_amount = batch.remaining_amount - slice.amount,
        state = CASE WHEN batch.remaining_amount = slice.amount THEN 'EXHAUSTED' ELSE 'ACTIVE' END,
        closed_at = CASE WHEN batch.remaining_amount = slice.amount
                         THEN CAST(:now AS timestamptz) END
    FROM slice
    WHERE batch.id = slice.batch_id
), lessened AS (
    UPDATE credit_balances
    SET balance = balance - :amount,
        version = version + 1,
        depleted_at = CASE WHEN :depleted THEN CAST(:now AS timestamptz) ELSE depleted_at END,
        updated_at = :now
    WHERE tenant_id = :tenant_id AND product_key = :product_key
    RETURNING balance, version
), entry AS (
    INSERT INTO ledger_entries
        (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
         cause_type, cause_id, metadata, created_at)
    SELECT :tenant_id, :product_key, 'DEBIT', slice.amount, :action, slice.batch_id,
           lessened.balance + :amount - slice.so_far, :cause_type, :cause_id, :details, :now
    FROM slice CROSS JOIN lessened
    ORDER BY slice.nth
)
SELECT balance, version FROM lessened
""").bindparams(bindparam("details", type_=JSONB))

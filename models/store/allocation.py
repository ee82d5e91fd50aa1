"""Each time a subscription gets its plan's credit: once a product and period, and how far it got.

Locks: the subscription's row of `subscription_credits` first, so that one transaction at a time
gives it credit; then balances, as everybody. Who holds the tenant's row took it before.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Select, func, insert, select, text, update
from sqlalchemy.orm import Session

from models.allocation import CreditAllocation
from models.rules.billing import Days


@dataclass(frozen=True, slots=True)
class Allocation:
    """A product's credit in one period. `carried` is None until the period before has ended."""

    id: UUID
    tenant_id: str
    subscription_id: UUID
    plan_credit_id: UUID
    product_key: str
    days: Days
    period_start: dt.datetime
    period_end: dt.datetime
    amount: Decimal
    batch_id: UUID | None
    carried: Decimal | None = None
    carried_batch_id: UUID | None = None

    @property
    def batch_ids(self) -> list[UUID]:
        """The batches it became."""
        return [batch for batch in (self.batch_id, self.carried_batch_id) if batch is not None]

    @property
    def never_granted(self) -> Decimal:
        """What of it was over before it could be granted."""
        return (self.amount if self.batch_id is None else Decimal(0)) + (
            self.carried or Decimal(0) if self.carried_batch_id is None else Decimal(0)
        )


def since(session: Session, subscription_id: UUID, day: dt.date) -> list[Allocation]:
    """Return a subscription's allocations whose period ends on a local day or later, by period."""
    return _listed(
        session,
        _ALLOCATIONS.where(
            CreditAllocation.subscription_id == subscription_id, CreditAllocation.after_day >= day
        ),
    )


def first_waiting(session: Session, subscription_id: UUID) -> dt.date | None:
    """Return the first day of the oldest period that waits for what is carried into it."""
    return session.scalar(
        select(func.min(CreditAllocation.first_day)).where(
            CreditAllocation.subscription_id == subscription_id,
            CreditAllocation.carried.is_(None),
            CreditAllocation.withdrawn_at.is_(None),
        )
    )


def add(session: Session, allocations: Sequence[Allocation], *, now: dt.datetime) -> None:
    """Store new allocations. A second one of a product and period is an error of the database."""
    if not allocations:
        return
    session.execute(
        insert(CreditAllocation),
        [
            {
                "id": one.id,
                "tenant_id": one.tenant_id,
                "subscription_id": one.subscription_id,
                "plan_credit_id": one.plan_credit_id,
                "product_key": one.product_key,
                "first_day": one.days.first,
                "after_day": one.days.after,
                "period_start": one.period_start,
                "period_end": one.period_end,
                "amount": one.amount,
                "batch_id": one.batch_id,
                "carried": one.carried,
                "carried_batch_id": one.carried_batch_id,
                "created_at": now,
            }
            for one in allocations
        ],
    )


def settle(
    session: Session, allocation_id: UUID, *, carried: Decimal, batch_id: UUID | None
) -> None:
    """Say what was carried into a period, and the batch that it became."""
    session.execute(
        update(CreditAllocation)
        .where(CreditAllocation.id == allocation_id, CreditAllocation.carried.is_(None))
        .values(carried=carried, carried_batch_id=batch_id)
    )


def withdraw(session: Session, allocations: Sequence[Allocation], *, now: dt.datetime) -> None:
    """Let allocations count no more, so that their periods can get credit again."""
    session.execute(
        update(CreditAllocation)
        .where(CreditAllocation.id.in_([one.id for one in allocations]))
        .values(withdrawn_at=now)
    )


def written_off(session: Session, batch_ids: Sequence[UUID]) -> Decimal:
    """Return how much of batches expired unspent."""
    if not batch_ids:
        return Decimal(0)
    amount: Decimal = session.execute(_WRITTEN_OFF, {"batch_ids": list(batch_ids)}).scalar_one()
    return amount


def _listed(session: Session, statement: Select[CreditAllocation]) -> list[Allocation]:
    rows = session.scalars(
        statement.order_by(CreditAllocation.first_day, CreditAllocation.product_key)
    )
    return [
        Allocation(
            id=row.id,
            tenant_id=row.tenant_id,
            subscription_id=row.subscription_id,
            plan_credit_id=row.plan_credit_id,
            product_key=row.product_key,
            days=Days(row.first_day, row.after_day),
            period_start=row.period_start,
            period_end=row.period_end,
            amount=row.amount,
            batch_id=row.batch_id,
            carried=row.carried,
            carried_batch_id=row.carried_batch_id,
        )
        for row in rows
    ]


_ALLOCATIONS = select(CreditAllocation).where(CreditAllocation.withdrawn_at.is_(None))

_WRITTEN_OFF = text("""
    SELECT coalesce(sum(amount), 0) FROM ledger_entries
    WHERE batch_id = ANY(CAST(:batch_ids AS uuid[])) AND action = 'expire' AND direction = 'DEBIT'
""")

"""What a tenant has of each product.

Each function is one statement, so one snapshot: what it returns was all true at one instant.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from models.catalog import Product, ProductType
from models.credit import CreditBalance, CreditBatch
from models.rules.states import CreditBatchState
from models.store import product
from models.store.credit import usable_at

OPEN = (CreditBatchState.ACTIVE.value, CreditBatchState.EXHAUSTED.value)
"""States of batches that neither time nor a decision has ended."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a tenant has of a product.

    `granted`, `used` and `available` are of the batches that are in their time and were not taken
    back; `pending` is of those whose time is to come; `next_expiry` and `batches` are of those that
    can be spent. `balance` and `held` are of everything, `version` counts the changes.
    """

    product_key: str
    name: str
    type: ProductType
    balance: Decimal
    held: Decimal
    granted: Decimal
    used: Decimal
    available: Decimal
    pending: Decimal
    batches: int
    next_expiry: dt.datetime | None
    version: int

    @property
    def is_unlimited(self) -> bool:
        """Whether it can be used now, and use takes nothing away."""
        return self.type is not ProductType.quantity and self.batches > 0

    def allows(self, amount: Decimal | None) -> bool:
        """Whether so much can be used now; None is anything above 0."""
        return self.is_unlimited or 0 < self.available >= (amount or 0)


def holdings(session: Session, tenant_id: str, *, now: dt.datetime) -> list[Holding]:
    """Return what a tenant has of each product it was ever granted, by product key."""
    statement = _holdings(tenant_id, now).where(CreditBalance.tenant_id.is_not(None))
    return [_holding(row) for row in session.execute(statement)]


def get_holding(session: Session, tenant_id: str, product_key: str, *, now: dt.datetime) -> Holding:
    """Return what a tenant has of a product; zeros if it was never granted any.

    Raises:
        UnknownProduct: there is no product by that key.
    """
    statement = _holdings(tenant_id, now).where(Product.product_key == product_key)
    row = session.execute(statement).one_or_none()
    if row is None:
        raise product.unknown(product_key)
    return _holding(row)


def _holdings(tenant_id: str, now: dt.datetime) -> Select[*tuple[Any, ...]]:
    usable = usable_at(now)
    # What has something left in its time, or had.
    in_time = and_(
        CreditBatch.valid_from <= now,
        or_(CreditBatch.expires_at.is_(None), CreditBatch.expires_at > now),
    )
    free = CreditBatch.remaining_amount - CreditBatch.held_amount
    pending = and_(CreditBatch.state == CreditBatchState.ACTIVE.value, CreditBatch.valid_from > now)
    return (
        select(
            Product.product_key,
            Product.name,
            Product.type,
            func.coalesce(CreditBalance.balance, 0).label("balance"),
            func.coalesce(CreditBalance.held, 0).label("held"),
            func.coalesce(CreditBalance.version, 0).label("version"),
            _sum(CreditBatch.initial_amount, in_time).label("granted"),
            _sum(CreditBatch.initial_amount - CreditBatch.remaining_amount, in_time).label("used"),
            # What is owed can not be spent.
            func.greatest(_sum(free, usable) - func.coalesce(CreditBalance.debt, 0), 0).label(
                "available"
            ),
            _sum(free, pending).label("pending"),
            func.count(case((usable, 1))).label("batches"),
            func.min(case((usable, CreditBatch.expires_at))).label("next_expiry"),
        )
        .select_from(Product)
        .outerjoin(
            CreditBalance,
            and_(
                CreditBalance.product_key == Product.product_key,
                CreditBalance.tenant_id == tenant_id,
            ),
        )
        .outerjoin(
            CreditBatch,
            and_(
                CreditBatch.tenant_id == tenant_id,
                CreditBatch.product_key == Product.product_key,
                CreditBatch.state.in_(OPEN),
            ),
        )
        .group_by(Product.product_key, CreditBalance.tenant_id, CreditBalance.product_key)
        .order_by(Product.product_key)
    )


def _sum(column: Any, condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, column))), 0)


def _holding(row: Any) -> Holding:
    return Holding(
        product_key=row.product_key,
        name=row.name,
        type=ProductType(row.type),
        balance=row.balance,
        held=row.held,
        granted=row.granted,
        used=row.used,
        available=row.available,
        pending=row.pending,
        batches=row.batches,
        next_expiry=row.next_expiry,
        version=row.version,
    )

"""What a tenant has of each product.

Each function is one statement, so one snapshot: what it returns was all true at one instant.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.catalog import ProductType
from models.store import product
from models.store.credit_account import USABLE


@dataclass(frozen=True, slots=True)
class Holding:
    """What a tenant has of a product.

    `granted`, `used` and `available` are of the batches that are in their time and were not taken
    back; `pending` is of those whose time is to come; `next_expiry` and `batches` are of those that
    can be spent. `balance` is all that remains less the `debt`, `held` what reservations have set
    aside of it.
    """

    product_key: str
    name: str
    type: ProductType
    balance: Decimal
    debt: Decimal
    held: Decimal
    granted: Decimal
    used: Decimal
    available: Decimal
    pending: Decimal
    batches: int
    next_expiry: dt.datetime | None

    @property
    def is_unlimited(self) -> bool:
        """Whether it can be used now, and use takes nothing away."""
        return self.type is not ProductType.quantity and self.batches > 0

    def allows(self, amount: Decimal | None) -> bool:
        """Whether so much can be used now; None is anything above 0."""
        return self.is_unlimited or 0 < self.available >= (amount or 0)


def holdings(session: Session, tenant_id: str, *, now: dt.datetime) -> list[Holding]:
    """Return what a tenant has of each product it ever had anything of, by product key."""
    found = _read(session, tenant_id, None, now)
    return [_holding(row) for row in found if row.is_known]


def get_holding(session: Session, tenant_id: str, product_key: str, *, now: dt.datetime) -> Holding:
    """Return what a tenant has of a product; zeros if it was never granted any.

    Raises:
        UnknownProduct: there is no product by that key.
    """
    for row in _read(session, tenant_id, product_key, now):
        return _holding(row)
    raise product.unknown(product_key)


def _read(
    session: Session, tenant_id: str, product_key: str | None, now: dt.datetime
) -> Sequence[Row[Any]]:
    values = {"tenant_id": tenant_id, "product_key": product_key, "now": now}
    return session.execute(_HOLDINGS, values).all()


def _holding(row: Row[Any]) -> Holding:
    return Holding(
        product_key=row.product_key,
        name=row.name,
        type=ProductType(row.type),
        balance=row.balance,
        debt=row.debt,
        held=row.held,
        granted=row.granted,
        used=row.used,
        available=row.available,
        pending=row.pending,
        batches=row.batches,
        next_expiry=row.next_expiry,
    )


# A hold whose time is over counts no more, swept or not, and what is owed can not be spent.
_HOLDINGS = text(f"""
WITH lapsed AS (
    SELECT reservation.product_key, slice.batch_id, sum(slice.amount) AS amount
    FROM reservations AS reservation
    JOIN reservation_slices AS slice ON slice.reservation_id = reservation.id
    JOIN products AS product
      ON product.product_key = reservation.product_key AND product.type = 'quantity'
    WHERE reservation.tenant_id = :tenant_id
      AND reservation.state = 'held' AND reservation.expires_at <= :now
    GROUP BY reservation.product_key, slice.batch_id
), lot AS (
    SELECT batch.*, {USABLE} AS is_usable,
           batch.valid_from <= :now AND (batch.expires_at IS NULL OR batch.expires_at > :now)
               AS is_in_time,
           batch.remaining_amount - batch.held_amount + coalesce(lapsed.amount, 0) AS free
    FROM credit_batches AS batch LEFT JOIN lapsed ON lapsed.batch_id = batch.id
    -- What neither time nor a decision has ended.
    WHERE batch.tenant_id = :tenant_id AND batch.state IN ('ACTIVE', 'EXHAUSTED')
      AND (CAST(:product_key AS text) IS NULL OR batch.product_key = :product_key)
), lots AS (
    SELECT product_key,
           sum(initial_amount) FILTER (WHERE is_in_time) AS granted,
           sum(initial_amount - remaining_amount) FILTER (WHERE is_in_time) AS used,
           sum(free) FILTER (WHERE is_usable) AS free,
           sum(free) FILTER (WHERE valid_from > :now) AS pending,
           count(*) FILTER (WHERE is_usable) AS batches,
           min(expires_at) FILTER (WHERE is_usable) AS next_expiry
    FROM lot GROUP BY product_key
)
SELECT product.product_key, product.name, product.type,
       balance.tenant_id IS NOT NULL AS is_known,
       coalesce(balance.balance, 0) AS balance, coalesce(balance.debt, 0) AS debt,
       coalesce(balance.held, 0) - coalesce((SELECT sum(amount) FROM lapsed
                                             WHERE lapsed.product_key = product.product_key), 0)
           AS held,
       coalesce(lots.granted, 0) AS granted, coalesce(lots.used, 0) AS used,
       greatest(coalesce(lots.free, 0) - coalesce(balance.debt, 0), 0) AS available,
       coalesce(lots.pending, 0) AS pending,
       coalesce(lots.batches, 0) AS batches, lots.next_expiry
FROM products AS product
LEFT JOIN credit_balances AS balance
  ON balance.product_key = product.product_key AND balance.tenant_id = :tenant_id
LEFT JOIN lots ON lots.product_key = product.product_key
WHERE CAST(:product_key AS text) IS NULL OR product.product_key = :product_key
ORDER BY product.product_key
""")  # noqa: S608 (a constant of another module)

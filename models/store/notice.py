"""Noticing that credit is low or about to expire, by comparing with what was seen before.

Nothing here is on the way of who spends: balances are read, not locked. Locks: rows of
`credit_notices`, claimed with SKIP LOCKED or by their key, and nothing else.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.notice import CreditNotice
from models.rules import notice as rules


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a tenant wants to hear of a product: when little is left, and days before it ends."""

    tenant_id: str
    product_key: str
    low: Sequence[Decimal]
    expiring_days: Sequence[int]


@dataclass(frozen=True, slots=True)
class Low:
    """The available amount of a product fell to a threshold or below it.

    `version` is that of the balance when it was seen.
    """

    tenant_id: str
    product_key: str
    threshold: Decimal
    available: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class Expiring:
    """A batch of which `amount` is free will end within so many days."""

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Decimal
    expires_at: dt.datetime
    days: int
    version: int


def put(session: Session, wanted: Wanted, *, now: dt.datetime) -> None:
    """Make what a tenant wants to hear of a product be this; nothing, if both are empty.

    What is low already when it is first asked for is not told: it crosses nothing.
    """
    key = {"tenant_id": wanted.tenant_id, "product_key": wanted.product_key}
    if not wanted.low and not wanted.expiring_days:
        session.execute(delete(CreditNotice).filter_by(**key))
        return
    was = session.scalar(select(CreditNotice.low).filter_by(**key).with_for_update())
    lists = {"low": list(wanted.low), "expiring_days": list(wanted.expiring_days)}
    session.execute(
        insert(CreditNotice)
        .values(**key, **lists, seen=0, version_seen=0)
        .on_conflict_do_update(index_elements=list(key), set_=lists)
    )
    if not was:
        # It was not looked at until now: what was seen some day says nothing.
        _remember(session, [(wanted.tenant_id, wanted.product_key)], now)


def of_tenant(session: Session, tenant_id: str) -> list[Wanted]:
    """Return what a tenant wants to hear, by product."""
    rows = session.scalars(
        select(CreditNotice)
        .where(CreditNotice.tenant_id == tenant_id)
        .order_by(CreditNotice.product_key)
    )
    return [Wanted(row.tenant_id, row.product_key, row.low, row.expiring_days) for row in rows]


def look(session: Session, *, now: dt.datetime, limit: int) -> tuple[int, list[Low]]:
    """Look at the next products of tenants whose available amount may have changed.

    Return how many were looked at, and what was crossed. Each look is remembered in the caller's
    transaction, with the amount it saw.
    """
    claimed = session.execute(_CLAIM, {"now": now, "limit": limit}).all()
    if not claimed:
        return 0, []
    # A later statement than the claim: no other look is newer than what it sees.
    lows = [
        Low(row.tenant_id, row.product_key, threshold, row.available, row.version)
        for row in _remember(session, [(row.tenant_id, row.product_key) for row in claimed], now)
        for threshold in rules.crossed(row.low, before=row.before, now=row.available)
    ]
    return len(claimed), lows


def tell_expiring(session: Session, *, now: dt.datetime, limit: int) -> tuple[int, list[Expiring]]:
    """Mark the next batches that end within the days their tenants asked for.

    Return how many (batch, days) were marked, and what to tell: of one batch the nearest alone, if
    several are due at once. A batch that never had so many days left is not told by them.
    """
    rows = session.execute(_EXPIRING, {"now": now, "limit": limit}).all()
    nearest: dict[UUID, Expiring] = {}
    for row in rows:
        found = Expiring(*row)
        known = nearest.get(found.batch_id)
        if known is None or found.days < known.days:
            nearest[found.batch_id] = found
    return len(rows), list(nearest.values())


def _remember(
    session: Session, keys: Sequence[tuple[str, str]], now: dt.datetime
) -> Sequence[Row[Any]]:
    """Look at products of tenants and remember what was seen; return it beside what was before."""
    return session.execute(
        _LOOK,
        {
            "tenant_ids": [tenant_id for tenant_id, _ in keys],
            "product_keys": [product_key for _, product_key in keys],
            "now": now,
        },
    ).all()


_CLAIM = text("""
    SELECT notice.tenant_id, notice.product_key
    FROM credit_notices AS notice
    LEFT JOIN credit_balances AS balance USING (tenant_id, product_key)
    WHERE notice.low <> '{}'
      AND (coalesce(balance.version, 0) <> notice.version_seen OR notice.look_at <= :now)
    LIMIT :limit
    FOR UPDATE OF notice SKIP LOCKED
""")

# What is available, and when time alone will change that: of one snapshot with the version. A hold
# whose time is over counts no more, swept or not, and what is owed can not be spent.
_LOOK = text("""
    WITH seen AS (
        SELECT tenant_id, product_key, coalesce(balance.version, 0) AS version,
               greatest(lots.free + coalesce(held.lapsed, 0) - coalesce(balance.debt, 0), 0)
                   AS available,
               least(lots.look_at, held.look_at) AS look_at, notice.seen AS before, notice.low
        FROM unnest(CAST(:tenant_ids AS text[]), CAST(:product_keys AS text[]))
            AS given(tenant_id, product_key)
        JOIN credit_notices AS notice USING (tenant_id, product_key)
        LEFT JOIN credit_balances AS balance USING (tenant_id, product_key)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(remaining_amount - held_amount) FILTER (WHERE in_time), 0) AS free,
                   least(min(valid_from) FILTER (WHERE valid_from > :now),
                         min(expires_at) FILTER (WHERE in_time)) AS look_at
            FROM (
                SELECT *,
                       valid_from <= :now AND (expires_at IS NULL OR expires_at > :now) AS in_time
                FROM credit_batches AS batch
                WHERE batch.tenant_id = given.tenant_id
                  AND batch.product_key = given.product_key AND batch.state = 'ACTIVE'
            ) AS active
        ) AS lots
        LEFT JOIN LATERAL (
            SELECT sum(slice.amount) FILTER (WHERE reservation.expires_at <= :now) AS lapsed,
                   min(reservation.expires_at) FILTER (WHERE reservation.expires_at > :now)
                       AS look_at
            FROM reservations AS reservation
            JOIN reservation_slices AS slice ON slice.reservation_id = reservation.id
            JOIN credit_batches AS batch ON batch.id = slice.batch_id
            WHERE reservation.tenant_id = given.tenant_id
              AND reservation.product_key = given.product_key AND reservation.state = 'held'
              AND batch.state = 'ACTIVE' AND batch.valid_from <= :now
              AND (batch.expires_at IS NULL OR batch.expires_at > :now)
        ) AS held ON balance.held > 0
    ), remembered AS (
        UPDATE credit_notices AS notice
        SET seen = seen.available, version_seen = seen.version, look_at = seen.look_at
        FROM seen
        WHERE notice.tenant_id = seen.tenant_id AND notice.product_key = seen.product_key
    )
    SELECT tenant_id, product_key, version, available, before, low FROM seen
    ORDER BY tenant_id, product_key
""")

_EXPIRING = text("""
    WITH due AS (
        SELECT batch.id, wanted.days
        FROM credit_notices AS notice
        CROSS JOIN LATERAL unnest(notice.expiring_days) AS wanted(days)
        JOIN credit_batches AS batch USING (tenant_id, product_key)
        WHERE batch.state = 'ACTIVE' AND batch.remaining_amount > batch.held_amount
          AND batch.expires_at > :now
          AND batch.expires_at <= :now + wanted.days * interval '24 hours'
          AND batch.created_at <= batch.expires_at - wanted.days * interval '24 hours'
          AND NOT EXISTS (SELECT FROM expiry_notices AS told
                          WHERE told.batch_id = batch.id AND told.days <= wanted.days)
        -- Of a batch the nearest first, wherever the limit lies.
        ORDER BY batch.id, wanted.days
        LIMIT :limit
    ), marked AS (
        INSERT INTO expiry_notices (batch_id, days, told_at)
        SELECT id, days, :now FROM due
        ON CONFLICT DO NOTHING
        RETURNING batch_id, days
    )
    SELECT batch.tenant_id, batch.product_key, batch.id,
           batch.remaining_amount - batch.held_amount, batch.expires_at, marked.days,
           balance.version
    FROM marked
    JOIN credit_batches AS batch ON batch.id = marked.batch_id
    JOIN credit_balances AS balance
      ON balance.tenant_id = batch.tenant_id AND balance.product_key = batch.product_key
    ORDER BY batch.expires_at, batch.id
""")

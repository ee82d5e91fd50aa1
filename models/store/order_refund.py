"""What a refund finds of an order's batches, under the locks of their balances."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store import credit_account, credit_locking, reservation_end
from models.store.reservation_end import Ended


@dataclass(frozen=True, slots=True)
class Found:
    """A batch before it is taken back: `free` of it can be, `held` is set aside.

    `lapsed` is over: by time, swept or not, or by an earlier decision. `is_counted` is of a product
    whose use takes something away.
    """

    granted: Decimal
    free: Decimal
    held: Decimal
    lapsed: Decimal
    is_open: bool
    is_counted: bool
    valid_from: dt.datetime
    expires_at: dt.datetime | None


def lock(
    session: Session, *, tenant_id: str, product_keys: Collection[str], now: dt.datetime
) -> Sequence[Ended]:
    """Lock all balances of a tenant, and end holds on some products whose time is over.

    All of them, as revoking does: to lock more later would be out of order.
    """
    credit_locking.lock_all(session, tenant_id=tenant_id)
    ended: list[Ended] = []
    for product_key in sorted(product_keys):
        account = credit_account.lock(
            session, tenant_id=tenant_id, product_key=product_key, now=now
        )
        if account is not None and account.has_overdue:
            ended += reservation_end.end_overdue(session, account, now=now)
    return ended


def look(session: Session, batch_ids: Sequence[UUID], *, now: dt.datetime) -> dict[UUID, Found]:
    """Return what there is of batches whose balances are locked, by id."""
    rows = session.execute(_LOOK, {"ids": list(batch_ids), "now": now})
    return {row.id: _found(row) for row in rows}


def _found(row: Any) -> Found:
    free = row.remaining_amount - row.held_amount
    return Found(
        granted=row.initial_amount,
        free=free if row.is_open else Decimal(0),
        held=row.held_amount,
        lapsed=row.written_off + (Decimal(0) if row.is_open else free),
        is_open=row.is_open,
        is_counted=row.is_counted,
        valid_from=row.valid_from,
        expires_at=row.expires_at,
    )


# A batch whose time is over is left to the sweep, which writes it off as expired: whether that has
# come by yet changes nothing.
_LOOK = text("""
SELECT batch.id, batch.initial_amount, batch.remaining_amount, batch.held_amount,
       batch.valid_from, batch.expires_at, product.type = 'quantity' AS is_counted,
       batch.state IN ('ACTIVE', 'EXHAUSTED')
           AND (batch.expires_at IS NULL OR batch.expires_at > :now) AS is_open,
       (SELECT coalesce(sum(entry.amount), 0) FROM ledger_entries AS entry
        WHERE entry.batch_id = batch.id AND entry.direction = 'DEBIT'
          AND entry.action IN ('expire', 'revoke')) AS written_off
FROM credit_batches AS batch
JOIN products AS product USING (product_key)
WHERE batch.id = ANY(CAST(:ids AS uuid[]))
""")

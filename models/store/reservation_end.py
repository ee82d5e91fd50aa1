"""The end of holds without a charge: what they set aside goes back, each exactly once."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.credit import Direction
from models.rules.states import CreditBatchState, ReservationState
from models.store import credit_ledger
from models.store.credit_account import Account
from models.store.credit_change import Loss
from models.store.credit_ledger import Cause, Entry

CAUSE = "reservation"
"""The kind of cause of entries that a reservation makes; which one is its id."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A hold that charged nothing. `balance` and `version` are the account's right after it."""

    reservation_id: UUID
    tenant_id: str
    product_key: str
    state: ReservationState
    amount: Decimal
    balance: Decimal
    version: int
    losses: Sequence[Loss]


def end(
    session: Session,
    reservation_ids: Sequence[UUID],
    *,
    state: ReservationState,
    reason: str | None = None,
    now: dt.datetime,
) -> list[Ended]:
    """Give back what those of the reservations hold that are still held; return these.

    The accounts must be locked. Credit goes back to its batches; of a batch that was closed
    meanwhile it is written off at once, with an entry of its own.
    """
    rows = session.execute(
        _END,
        {"ids": list(reservation_ids), "state": state.value, "reason": reason, "now": now},
    ).all()
    credit_ledger.follow(session, [_entry(row, now) for row in rows if row.entry_id is not None])
    return [_ended(list(found), state) for _, found in groupby(rows, key=_reservation_id)]


def end_overdue(session: Session, account: Account, *, now: dt.datetime) -> list[Ended]:
    """End the holds of a locked account whose time is over, as the sweep would."""
    overdue = session.scalars(
        _OVERDUE,
        {"tenant_id": account.tenant_id, "product_key": account.product_key, "now": now},
    ).all()
    return end(session, overdue, state=ReservationState.expired, now=now)


def _reservation_id(row: Row[Any]) -> UUID:
    found: UUID = row.reservation_id
    return found


def _ended(rows: Sequence[Row[Any]], state: ReservationState) -> Ended:
    first = rows[0]
    return Ended(
        reservation_id=first.reservation_id,
        tenant_id=first.tenant_id,
        product_key=first.product_key,
        state=state,
        amount=first.amount,
        balance=first.balance,
        version=first.version,
        losses=[
            Loss(
                batch_id=row.batch_id,
                state=CreditBatchState(row.batch_state),
                expires_at=row.batch_expires_at,
                amount=row.lost,
            )
            for row in rows
            if row.batch_id is not None
        ],
    )


def _entry(row: Row[Any], now: dt.datetime) -> Entry:
    return Entry(
        id=row.entry_id,
        tenant_id=row.tenant_id,
        product_key=row.product_key,
        direction=Direction.DEBIT.value,
        action=row.action,
        amount=row.lost,
        batch_id=row.batch_id,
        balance_after=row.balance_after,
        cause=Cause(CAUSE, str(row.reservation_id)),
        created_at=now,
    )


_OVERDUE = text("""
SELECT id FROM reservations
WHERE tenant_id = :tenant_id AND product_key = :product_key
  AND state = 'held' AND expires_at <= :now
""")

# A hold on a product that is not counted set nothing aside: its slice only names the batch that
# allowed it. The state's compare-and-set makes one of commit, release and expiry the winner.
_END = text("""
WITH ended AS (
    UPDATE reservations
    SET state = :state, closed_at = :now, release_reason = :reason
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'held'
    RETURNING id, tenant_id, product_key, amount, expires_at
), part AS (
    SELECT ended.id, ended.tenant_id, ended.product_key, ended.expires_at, slice.nth,
           slice.batch_id, slice.amount, batch.state AS batch_state,
           batch.expires_at AS batch_expires_at,
           CASE batch.state WHEN 'EXPIRED' THEN 'expire' ELSE 'revoke' END AS action,
           CASE WHEN batch.state IN ('EXPIRED', 'REVOKED') THEN slice.amount ELSE 0 END AS lost
    FROM ended
    JOIN products AS product USING (product_key)
    JOIN reservation_slices AS slice ON slice.reservation_id = ended.id
    JOIN credit_batches AS batch ON batch.id = slice.batch_id
    WHERE product.type = 'quantity'
), batch AS (
    UPDATE credit_batches AS batch
    SET held_amount = batch.held_amount - back.amount,
        remaining_amount = batch.remaining_amount - back.lost
    FROM (SELECT batch_id, sum(amount) AS amount, sum(lost) AS lost
          FROM part GROUP BY batch_id) AS back
    WHERE batch.id = back.batch_id
), hold AS (
    SELECT ended.*, coalesce(back.amount, 0) AS back, coalesce(back.lost, 0) AS lost,
           sum(coalesce(back.lost, 0)) OVER walk AS lost_so_far, row_number() OVER walk AS nth
    FROM ended
    LEFT JOIN (SELECT id, sum(amount) AS amount, sum(lost) AS lost FROM part GROUP BY id) AS back
        USING (id)
    WINDOW walk AS (PARTITION BY tenant_id, product_key ORDER BY ended.expires_at, ended.id)
), balance AS (
    UPDATE credit_balances AS balance
    SET held = balance.held - total.back, balance = balance.balance - total.lost,
        version = balance.version + total.holds, updated_at = :now
    FROM (SELECT tenant_id, product_key, sum(back) AS back, sum(lost) AS lost, count(*) AS holds
          FROM hold GROUP BY tenant_id, product_key) AS total
    WHERE balance.tenant_id = total.tenant_id AND balance.product_key = total.product_key
    RETURNING balance.tenant_id, balance.product_key, balance.balance + total.lost AS was,
              balance.version - total.holds AS version_was
), loss AS (
    SELECT part.*,
           balance.was - sum(lost) OVER (PARTITION BY tenant_id, product_key
                                         ORDER BY expires_at, id, nth) AS balance_after
    FROM part JOIN balance USING (tenant_id, product_key)
    WHERE lost > 0
), entry AS (
    INSERT INTO ledger_entries
        (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
         cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', lost, action, batch_id, balance_after,
           'reservation', id, :now
    FROM loss
    ORDER BY tenant_id, product_key, expires_at, id, nth
    RETURNING id, batch_id, cause_id
)
SELECT hold.id AS reservation_id, hold.tenant_id, hold.product_key, hold.amount,
       balance.was - hold.lost_so_far AS balance, balance.version_was + hold.nth AS version,
       loss.batch_id, loss.batch_state, loss.batch_expires_at, loss.action, loss.lost,
       loss.balance_after, entry.id AS entry_id
FROM hold
JOIN balance USING (tenant_id, product_key)
LEFT JOIN loss ON loss.id = hold.id
LEFT JOIN entry ON entry.batch_id = loss.batch_id AND entry.cause_id = CAST(hold.id AS text)
ORDER BY hold.tenant_id, hold.product_key, hold.nth, loss.nth
""")

"""The end of credit: batches whose time is over are written off, chunk by chunk."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    DateTime,
    TableValuedAlias,
    Text,
    cast,
    column,
    exists,
    func,
    or_,
    text,
    update,
)
from sqlalchemy.orm import Session

from models.credit import Action, CreditBalance, CreditBatch, Direction
from models.store import credit_claim, credit_ledger
from models.store.credit import usable_at
from models.store.credit_claim import Place
from models.store.credit_ledger import Cause, Entry


@dataclass(frozen=True, slots=True)
class Expired:
    """A batch that ended with `amount` unspent. `balance` and `version` are those right after.

    The amount is 0 if holds had set all of it aside.
    """

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Decimal
    balance: Decimal
    version: int
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Depleted:
    """A tenant has had nothing usable of a product since its credit expired."""

    tenant_id: str
    product_key: str
    version: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk did, and where to go on: `behind` is None when the walk is at its end.

    `passed_over` batches were due but their balance was in use; the next walk finds them.
    """

    expired: Sequence[Expired]
    depleted: Sequence[Depleted]
    passed_over: int
    behind: Place | None


def expire_chunk(session: Session, *, behind: Place, at_most: int, now: dt.datetime) -> Chunk:
    """Write off the next batches that are over at `now`, the longest over first.

    What a hold has set aside of a batch outlives it until the hold ends.

    Args:
        behind: where the chunk before ended, or BEGINNING.
        at_most: batches to look at, and so the most that are locked.
    """
    claimed = credit_claim.claim(
        session, credit_claim.Due.batches, behind=behind, at_most=at_most, now=now
    )
    expired = _close(session, claimed.ids, now)
    depleted = _deplete(session, expired, now)
    return Chunk(expired, depleted, claimed.passed_over, claimed.behind)


def write_off(session: Session, batch_ids: Sequence[UUID], *, now: dt.datetime) -> list[Expired]:
    """Write off those of some batches that are active, whose time must be over at `now`.

    Their balances must be locked. Who does this to grant anew need not tell of what was depleted.
    """
    return _close(session, batch_ids, now)


def _close(session: Session, batch_ids: Sequence[UUID], now: dt.datetime) -> list[Expired]:
    """A later statement than the claim: it sees what was committed before the locks were had."""
    if not batch_ids:
        return []
    rows = session.execute(_CLOSE, {"ids": batch_ids, "now": now}).all()
    expired = [Expired(*row[:-1]) for row in rows]
    if credit_ledger.is_followed():
        written = zip(expired, rows, strict=True)
        credit_ledger.follow(
            session, [_entry(batch, row.entry_id, now) for batch, row in written if row.entry_id]
        )
    return expired


def _entry(batch: Expired, entry_id: int, now: dt.datetime) -> Entry:
    return Entry(
        id=entry_id,
        tenant_id=batch.tenant_id,
        product_key=batch.product_key,
        direction=Direction.DEBIT.value,
        action=Action.expire.value,
        amount=batch.amount,
        batch_id=batch.batch_id,
        balance_after=batch.balance,
        cause=Cause("billing.expire_batches", str(batch.batch_id)),
        created_at=now,
    )


def _deplete(session: Session, expired: Sequence[Expired], now: dt.datetime) -> list[Depleted]:
    """Mark the balances that crossed to nothing usable, and return them.

    If subscribers were told at an instant that nothing is usable, only credit that ended later can
    have crossed again: a batch that ended before was no longer usable then.
    """
    if not expired:
        return []
    ended = _last_ends(expired)
    left = exists().where(
        CreditBatch.tenant_id == CreditBalance.tenant_id,
        CreditBatch.product_key == CreditBalance.product_key,
        usable_at(now),
    )
    rows = session.execute(
        update(CreditBalance)
        .where(
            CreditBalance.tenant_id == ended.c.tenant_id,
            CreditBalance.product_key == ended.c.product_key,
            or_(CreditBalance.depleted_at.is_(None), CreditBalance.depleted_at < ended.c.last_at),
            ~left,
        )
        .values(depleted_at=now)
        .returning(CreditBalance.tenant_id, CreditBalance.product_key, CreditBalance.version)
    )
    return sorted((Depleted(*row) for row in rows), key=lambda d: (d.tenant_id, d.product_key))


def _last_ends(expired: Sequence[Expired]) -> TableValuedAlias:
    """Return rows of (tenant_id, product_key, last_at): the end of each balance's last batch."""
    last = {(batch.tenant_id, batch.product_key): batch.expires_at for batch in expired}
    return (
        func.unnest(
            cast([tenant_id for tenant_id, _ in last], ARRAY(Text)),
            cast([product_key for _, product_key in last], ARRAY(Text)),
            cast(list(last.values()), ARRAY(DateTime(timezone=True))),
        )
        .table_valued(
            column("tenant_id", Text),
            column("product_key", Text),
            column("last_at", DateTime(timezone=True)),
            name="ended",
        )
        .render_derived()
    )


# A batch that is held in full has nothing to write off: it is closed without an entry.
_CLOSE = text("""
WITH due AS (
    SELECT id, tenant_id, product_key, expires_at, remaining_amount - held_amount AS gone,
           sum(remaining_amount - held_amount) OVER walk AS gone_so_far,
           row_number() OVER walk AS nth
    FROM credit_batches
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'ACTIVE'
    WINDOW walk AS (PARTITION BY tenant_id, product_key ORDER BY expires_at, id)
), closed AS (
    UPDATE credit_batches AS batch
    SET remaining_amount = batch.held_amount, state = 'EXPIRED', closed_at = :now
    FROM due
    WHERE batch.id = due.id
), balance AS (
    UPDATE credit_balances AS balance
    SET balance = balance.balance - total.gone,
        version = balance.version + total.batches,
        updated_at = :now
    FROM (SELECT tenant_id, product_key, sum(gone) AS gone, count(*) AS batches
          FROM due GROUP BY tenant_id, product_key) AS total
    WHERE balance.tenant_id = total.tenant_id AND balance.product_key = total.product_key
    RETURNING balance.tenant_id, balance.product_key, balance.balance + total.gone AS was,
              balance.version - total.batches AS version_was
), change AS (
    SELECT due.tenant_id, due.product_key, due.id, due.gone, due.nth, due.expires_at,
           balance.was - due.gone_so_far AS balance_after, balance.version_was + due.nth AS version
    FROM due JOIN balance USING (tenant_id, product_key)
), entry AS (
    INSERT INTO ledger_entries
        (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
         cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', gone, 'expire', id, balance_after,
           'billing.expire_batches', id, :now
    FROM change
    WHERE gone > 0
    ORDER BY tenant_id, product_key, nth
    RETURNING id, batch_id
)
SELECT change.tenant_id, change.product_key, change.id, change.gone, change.balance_after,
       change.version, change.expires_at, entry.id AS entry_id
FROM change LEFT JOIN entry ON entry.batch_id = change.id
ORDER BY tenant_id, product_key, nth
""")

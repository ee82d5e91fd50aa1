"""Taking batches back: what is left of them, holds apart, is written off by decision."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, exists, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from models.credit import Action, CreditBalance, CreditBatch, Direction, LedgerEntry
from models.rules.states import CREDIT_BATCH, CreditBatchState
from models.store import credit_ledger, credit_locking
from models.store.credit import usable_at
from models.store.credit_ledger import Cause, Entry

OPEN = tuple(
    CreditBatchState(state)
    for state in CreditBatchState
    if "revoke" in CREDIT_BATCH.transitions[state]
)
"""States from which a batch can be taken back: also when nothing is left that a refund could
return to it."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which batches of a tenant: these, or all from a source, or all that one cause granted."""

    batch_ids: Sequence[UUID] | None = None
    source: str | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Why batches are taken back, who decided, and what the ledger names as the cause."""

    reason: str
    actor: str
    cause: Cause
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Revoked:
    """A batch that was taken back: `amount` is gone, `held` stays until its holds end.

    `balance` and `version` are those of its product right after.
    """

    batch_id: UUID
    product_key: str
    amount: Decimal
    held: Decimal
    balance: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was taken back; products, with versions, of which nothing usable is left since."""

    revoked: Sequence[Revoked]
    depleted: Sequence[tuple[str, int]]


def revoke(
    session: Session, selector: Selector, decision: Decision, *, tenant_id: str, now: dt.datetime
) -> Outcome:
    """Take back the open batches that are meant; none if there are none.

    What a hold has set aside of a batch stays in it, REVOKED, until the hold ends: committed, it is
    paid from there; given back, it is written off.
    """
    # All of the tenant's balances: which of them have such batches is known only under their locks.
    product_keys = credit_locking.lock_all(session, tenant_id=tenant_id)
    chosen = session.execute(
        select(CreditBatch.id).where(
            CreditBatch.tenant_id == tenant_id,
            CreditBatch.product_key.in_(product_keys),
            CreditBatch.state.in_([state.value for state in OPEN]),
            *_meant(selector),
        )
    )
    batch_ids = [row.id for row in chosen]
    if not batch_ids:
        return Outcome((), ())
    rows = session.execute(
        _REVOKE,
        {
            "tenant_id": tenant_id,
            "ids": batch_ids,
            "reason": decision.reason,
            "actor": decision.actor,
            "cause_type": decision.cause.type,
            "cause_id": decision.cause.id,
            "details": {**decision.details, "reason": decision.reason, "actor": decision.actor},
            "now": now,
        },
    ).all()
    entries = [_entry(row, decision, tenant_id, now) for row in rows if row.entry_id is not None]
    credit_ledger.follow(session, entries)
    revoked = [
        Revoked(row.id, row.product_key, row.gone, row.held_amount, row.balance_after, row.version)
        for row in rows
    ]
    took = {row.product_key for row in rows if row.gone > 0 and row.was_usable}
    return Outcome(revoked, _deplete(session, tenant_id, took, now))


def _entry(row: Row[Any], decision: Decision, tenant_id: str, now: dt.datetime) -> Entry:
    return Entry(
        id=row.entry_id,
        tenant_id=tenant_id,
        product_key=row.product_key,
        direction=Direction.DEBIT.value,
        action=Action.revoke.value,
        amount=row.gone,
        batch_id=row.id,
        balance_after=row.balance_after,
        cause=decision.cause,
        created_at=now,
    )


def _meant(selector: Selector) -> list[Any]:
    conditions: list[Any] = []
    if selector.batch_ids is not None:
        conditions.append(CreditBatch.id.in_(selector.batch_ids))
    if selector.source is not None:
        conditions.append(CreditBatch.source == selector.source)
    if selector.cause is not None:
        granted = exists().where(
            LedgerEntry.batch_id == CreditBatch.id,
            LedgerEntry.direction == Direction.CREDIT.value,
            LedgerEntry.action.in_([Action.grant.value, Action.adjust.value]),
            LedgerEntry.cause_type == selector.cause.type,
            LedgerEntry.cause_id == selector.cause.id,
        )
        conditions.append(granted)
    return conditions


def _deplete(
    session: Session, tenant_id: str, product_keys: set[str], now: dt.datetime
) -> list[tuple[str, int]]:
    """Mark the balances of which nothing usable is left, and return them."""
    if not product_keys:
        return []
    left = exists().where(
        CreditBatch.tenant_id == CreditBalance.tenant_id,
        CreditBatch.product_key == CreditBalance.product_key,
        usable_at(now),
    )
    rows = session.execute(
        update(CreditBalance)
        .where(
            CreditBalance.tenant_id == tenant_id,
            CreditBalance.product_key.in_(product_keys),
            ~left,
        )
        .values(depleted_at=now)
        .returning(CreditBalance.product_key, CreditBalance.version)
    )
    return sorted((row.product_key, row.version) for row in rows)


# A batch of which nothing is left, or all is held, is closed without an entry.
_REVOKE = text("""
WITH chosen AS (
    SELECT id, product_key, held_amount, remaining_amount - held_amount AS gone,
           state = 'ACTIVE' AND valid_from <= :now AND (expires_at IS NULL OR expires_at > :now)
               AS was_usable,
           sum(remaining_amount - held_amount) OVER walk AS gone_so_far,
           row_number() OVER walk AS nth
    FROM credit_batches
    WHERE id = ANY(CAST(:ids AS uuid[]))
    WINDOW walk AS (PARTITION BY product_key ORDER BY created_at, id)
), closed AS (
    UPDATE credit_batches AS batch
    SET remaining_amount = batch.held_amount, state = 'REVOKED', closed_at = :now,
        revoked_reason = :reason, revoked_by = :actor
    FROM chosen
    WHERE batch.id = chosen.id
), balance AS (
    UPDATE credit_balances AS balance
    SET balance = balance.balance - total.gone,
        version = balance.version + total.batches,
        updated_at = :now
    FROM (SELECT product_key, sum(gone) AS gone, count(*) AS batches
          FROM chosen GROUP BY product_key) AS total
    WHERE balance.tenant_id = :tenant_id AND balance.product_key = total.product_key
    RETURNING balance.product_key, balance.balance + total.gone AS was,
              balance.version - total.batches AS version_was
), change AS (
    SELECT chosen.*, balance.was - chosen.gone_so_far AS balance_after,
           balance.version_was + chosen.nth AS version
    FROM chosen JOIN balance USING (product_key)
), entry AS (
    INSERT INTO ledger_entries
        (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
         cause_type, cause_id, metadata, created_at)
    SELECT :tenant_id, product_key, 'DEBIT', gone, 'revoke', id, balance_after,
           :cause_type, :cause_id, :details, :now
    FROM change
    WHERE gone > 0
    ORDER BY product_key, nth
    RETURNING id, batch_id
)
SELECT change.id, change.product_key, change.gone, change.held_amount, change.was_usable,
       change.balance_after, change.version, entry.id AS entry_id
FROM change LEFT JOIN entry ON entry.batch_id = change.id
ORDER BY change.product_key, change.nth
""").bindparams(bindparam("details", type_=JSONB))

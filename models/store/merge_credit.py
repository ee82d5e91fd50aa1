"""Credit of a tenant that becomes part of another one: batches move, and the ledger says so.

The ledger is append-only and each entry says which balance it left, so entries are not re-pointed:
the two histories would have to be sorted into one another and every balance in them rewritten.
Instead each batch leaves by `merge_out` with what remains in it and comes in by `merge_in`, and so
does the debt; a batch keeps its id, its terms and its holds. What was there before stays under the
old id, and adds up to nothing there.
"""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.store import credit_account, credit_funds, credit_ledger, credit_locking
from models.store.credit_ledger import Cause, Entry

CAUSE = "merge"
"""The kind of cause of these entries; which one is the merge's id."""


def lock(session: Session, *, source: str, target: str, now: dt.datetime) -> list[str]:
    """Lock the balances of both in the one order, the target's made where the source has one.

    The source is locked against getting others.

    Returns:
        The products the source has a balance of.
    """
    products = list(session.scalars(_PRODUCTS, {"source": source}))
    for tenant_id in sorted((source, target)):
        if tenant_id == source:
            credit_locking.lock_all(session, tenant_id=source)
        elif products:
            credit_locking.lock(session, tenant_id=target, product_keys=products, now=now)
    return products


def move(
    session: Session, *, source: str, target: str, merge_id: UUID, now: dt.datetime
) -> dict[str, int]:
    """Move batches, debt and balances, which are locked; return how many batches and entries.

    What the target can spend then pays what it owes then.
    """
    given = {"source": source, "target": target, "merge_id": str(merge_id), "now": now}
    batches = session.execute(_COUNT, {"source": source}).scalar_one()
    entries = session.execute(_MOVE, given).all()
    credit_ledger.follow(session, [_entry(row, merge_id, now) for row in entries])
    return {"credit_batches": batches, "ledger_entries": len(entries)}


def settle(
    session: Session, products: list[str], *, target: str, merge_id: UUID, now: dt.datetime
) -> None:
    """Let what the target can spend pay what it owes, as credit that comes in does."""
    cause = Cause(CAUSE, str(merge_id))
    for product_key in products:
        account = credit_account.lock(session, tenant_id=target, product_key=product_key, now=now)
        if account is not None:
            credit_funds.settle_debt(session, account, cause=cause, now=now)


def _entry(row: Row[Any], merge_id: UUID, now: dt.datetime) -> Entry:
    return Entry(
        id=row.id,
        tenant_id=row.tenant_id,
        product_key=row.product_key,
        direction=row.direction,
        action=row.action,
        amount=row.amount,
        batch_id=row.batch_id,
        balance_after=row.balance_after,
        cause=Cause(CAUSE, str(merge_id)),
        created_at=now,
    )


_PRODUCTS = text("""
    SELECT product_key FROM credit_balances WHERE tenant_id = :source ORDER BY product_key
""")

_COUNT = text("SELECT count(*) FROM credit_batches WHERE tenant_id = :source")

# One statement: what leaves one account comes into the other. Both balances are locked, so what it
# reads is what there is. Debt has no batch: it leaves by a CREDIT and comes in by a DEBIT.
_MOVE = text("""
WITH batch AS (
    UPDATE credit_batches SET tenant_id = :target WHERE tenant_id = :source
    RETURNING id, product_key, remaining_amount, created_at
), gone AS (
    DELETE FROM credit_balances WHERE tenant_id = :source
    RETURNING product_key, balance, held, debt
), part AS (
    SELECT product_key, id AS batch_id, remaining_amount AS amount, created_at, false AS is_debt
    FROM batch WHERE remaining_amount > 0
    UNION ALL
    SELECT product_key, NULL, debt, NULL, true FROM gone WHERE debt > 0
), walk AS (
    SELECT part.*,
           sum(CASE WHEN is_debt THEN -amount ELSE amount END) OVER (
               PARTITION BY product_key ORDER BY is_debt, created_at, batch_id
               ROWS UNBOUNDED PRECEDING) AS so_far,
           row_number() OVER (ORDER BY product_key, is_debt, created_at, batch_id) AS nth
    FROM part
), joined AS (
    UPDATE credit_balances AS balance
    SET balance = balance.balance + gone.balance, held = balance.held + gone.held,
        debt = balance.debt + gone.debt, version = balance.version + 1, updated_at = :now
    FROM gone
    WHERE balance.tenant_id = :target AND balance.product_key = gone.product_key
    RETURNING balance.product_key, balance.balance - gone.balance AS was
)
INSERT INTO ledger_entries
    (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
     cause_type, cause_id, created_at)
SELECT tenant_id, product_key, direction, amount, action, batch_id, balance_after,
       'merge', :merge_id, :now
FROM (
    SELECT CAST(:source AS text) AS tenant_id, walk.product_key, 'merge_out' AS action,
           CASE WHEN is_debt THEN 'CREDIT' ELSE 'DEBIT' END AS direction,
           amount, batch_id, gone.balance - so_far AS balance_after, 1 AS side, nth
    FROM walk JOIN gone USING (product_key)
    UNION ALL
    SELECT CAST(:target AS text), walk.product_key, 'merge_in',
           CASE WHEN is_debt THEN 'DEBIT' ELSE 'CREDIT' END,
           amount, batch_id, joined.was + so_far, 2, nth
    FROM walk JOIN joined USING (product_key)
) AS entry
ORDER BY side, nth
RETURNING id, tenant_id, product_key, direction, amount, action, batch_id, balance_after
""")

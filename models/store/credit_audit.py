"""Proof that the ledger, the batches and the balances say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

MOST_FINDINGS = 1_000
"""Findings told at once: the first ones are enough to see what went wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Two figures that should be equal and are not.

    `check` is what was compared:

    - ledger: the sum of a balance's entries, and the balance;
    - batches: the sum of what remains in its batches, and the balance;
    - held: the sum of what is held of its batches, and what the balance says is held;
    - batch: the sum of one batch's entries, and what remains in it;
    - chain: the sum of the entries up to one, and the balance that entry says it left.
    """

    check: str
    tenant_id: str
    product_key: str
    batch_id: UUID | None
    entry_id: int | None
    expected: Decimal
    actual: Decimal


def audit(session: Session) -> Sequence[Finding]:
    """Compare every balance, batch and entry; return what differs, nothing if all is well.

    One statement, so that it sees one instant while grants and spending go on.
    """
    return [Finding(*row) for row in session.execute(_AUDIT, {"most": MOST_FINDINGS})]


_AUDIT = text("""
WITH entry AS (
    SELECT id, tenant_id, product_key, batch_id, balance_after,
           CASE direction WHEN 'CREDIT' THEN amount WHEN 'DEBIT' THEN -amount ELSE 0 END AS moved
    FROM ledger_entries
), ledger AS (
    SELECT tenant_id, product_key, sum(moved) AS moved FROM entry GROUP BY tenant_id, product_key
), batches AS (
    SELECT tenant_id, product_key, sum(remaining_amount) AS remaining, sum(held_amount) AS held
    FROM credit_batches GROUP BY tenant_id, product_key
), account AS (
    SELECT tenant_id, product_key,
           coalesce(ledger.moved, 0) AS moved,
           coalesce(batches.remaining, 0) AS remaining,
           coalesce(batches.held, 0) AS batches_held,
           coalesce(balance.balance, 0) AS balance,
           coalesce(balance.held, 0) AS balance_held
    FROM credit_balances AS balance
    FULL JOIN ledger USING (tenant_id, product_key)
    FULL JOIN batches USING (tenant_id, product_key)
), per_batch AS (
    SELECT batch_id, sum(moved) AS moved FROM entry WHERE batch_id IS NOT NULL GROUP BY batch_id
), chain AS (
    SELECT id, tenant_id, product_key, batch_id, balance_after,
           sum(moved) OVER (PARTITION BY tenant_id, product_key ORDER BY id) AS so_far
    FROM entry
), finding (check_, tenant_id, product_key, batch_id, entry_id, expected, actual) AS (
    SELECT 'ledger', tenant_id, product_key, CAST(NULL AS uuid), CAST(NULL AS bigint),
           moved, balance
    FROM account WHERE moved <> balance
    UNION ALL
    SELECT 'batches', tenant_id, product_key, NULL, NULL, remaining, balance
    FROM account WHERE remaining <> balance
    UNION ALL
    SELECT 'held', tenant_id, product_key, NULL, NULL, batches_held, balance_held
    FROM account WHERE batches_held <> balance_held
    UNION ALL
    SELECT 'batch', batch.tenant_id, batch.product_key, batch.id, NULL,
           coalesce(per_batch.moved, 0), batch.remaining_amount
    FROM credit_batches AS batch LEFT JOIN per_batch ON per_batch.batch_id = batch.id
    WHERE coalesce(per_batch.moved, 0) <> batch.remaining_amount
    UNION ALL
    SELECT 'chain', tenant_id, product_key, batch_id, id, so_far, balance_after
    FROM chain WHERE so_far <> balance_after
)
SELECT check_, tenant_id, product_key, batch_id, entry_id, expected, actual
FROM finding
ORDER BY tenant_id, product_key, check_, entry_id, batch_id
LIMIT :most
""")

"""Proof that the ledger, the batches, the holds and the balances say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

MOST_FINDINGS = 1_000
"""Findings told at once: the first ones are enough to see what went wrong."""

CHUNK = 2_000
"""Accounts that one statement looks at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Two figures that should be equal and are not.

    `check` is what was compared:

    - ledger: the sum of an account's entries, and its balance;
    - batches: what remains in its batches less its debt, and its balance;
    - debt: the sum of its entries without a batch, and what it says is owed;
    - held: the sum of what is held of its batches, and what it says is held;
    - holds: the sum of the open holds on one batch, and what is held of it;
    - slices: what an open hold has set aside of batches, and what it says it has;
    - batch: the sum of one batch's entries, and what remains in it;
    - remaining: what remains in a batch, and the bounds of that, 0 and what was granted;
    - set_aside: what is held of a batch, and the bounds of that, 0 and what remains;
    - chain: the sum of the entries up to one, and the balance that entry says it left.
    """

    check: str
    tenant_id: str
    product_key: str
    batch_id: UUID | None
    entry_id: int | None
    reservation_id: UUID | None
    expected: Decimal
    actual: Decimal


@dataclass(frozen=True, slots=True)
class Account:
    """Whose account of which product."""

    tenant_id: str
    product_key: str


BEGINNING = Account("", "")
"""Before every account."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is wrong with some accounts, and where to go on: `behind` is None at the end."""

    findings: Sequence[Finding]
    behind: Account | None


def audit(session: Session) -> Sequence[Finding]:
    """Compare every balance, hold, batch and entry; return what differs, nothing if all is well."""
    findings: list[Finding] = []
    behind: Account | None = BEGINNING
    while behind is not None and len(findings) < MOST_FINDINGS:
        chunk = audit_chunk(session, behind=behind)
        findings += chunk.findings
        behind = chunk.behind
    return findings[:MOST_FINDINGS]


def audit_chunk(session: Session, *, behind: Account, at_most: int = CHUNK) -> Chunk:
    """Compare the figures of the next accounts, in the order of their keys.

    One statement, so that it sees one instant while grants and spending go on: whoever moves credit
    does it in one transaction, so an account is right at any instant.

    Args:
        behind: where the chunk before ended, or BEGINNING.
        at_most: accounts to look at. Rows of accounts that have no balance are looked at as well.
    """
    bounds = {"tenant_id": behind.tenant_id, "product_key": behind.product_key}
    last = session.execute(_LAST, {**bounds, "nth": at_most - 1}).one_or_none()
    if last is None:
        rows = session.execute(_AUDIT_REST, {**bounds, "most": MOST_FINDINGS})
        return Chunk([Finding(*row) for row in rows], None)
    until = {"last_tenant_id": last.tenant_id, "last_product_key": last.product_key}
    rows = session.execute(_AUDIT_CHUNK, {**bounds, **until, "most": MOST_FINDINGS})
    return Chunk([Finding(*row) for row in rows], Account(last.tenant_id, last.product_key))


_LAST = text("""
SELECT tenant_id, product_key
FROM credit_balances
WHERE (tenant_id, product_key) > (:tenant_id, :product_key)
ORDER BY tenant_id, product_key
OFFSET :nth LIMIT 1
""")

_BEHIND = "(tenant_id, product_key) > (:tenant_id, :product_key)"
_UNTIL = "(tenant_id, product_key) <= (:last_tenant_id, :last_product_key)"

_CHECKS = """
WITH entry AS MATERIALIZED (
    SELECT id, tenant_id, product_key, batch_id, balance_after,
           CASE direction WHEN 'CREDIT' THEN amount WHEN 'DEBIT' THEN -amount ELSE 0 END AS moved
    FROM ledger_entries
    WHERE {accounts}
), ledger AS (
    SELECT tenant_id, product_key, sum(moved) AS moved,
           coalesce(sum(moved) FILTER (WHERE batch_id IS NULL), 0) AS moved_debt
    FROM entry GROUP BY tenant_id, product_key
), batch AS MATERIALIZED (
    SELECT id, tenant_id, product_key, initial_amount, remaining_amount, held_amount
    FROM credit_batches
    WHERE {accounts}
), batches AS (
    SELECT tenant_id, product_key, sum(remaining_amount) AS remaining, sum(held_amount) AS held
    FROM batch GROUP BY tenant_id, product_key
), account AS (
    SELECT tenant_id, product_key,
           coalesce(ledger.moved, 0) AS moved,
           -coalesce(ledger.moved_debt, 0) AS moved_debt,
           coalesce(batches.remaining, 0) AS remaining,
           coalesce(batches.held, 0) AS batches_held,
           coalesce(balance.balance, 0) AS balance,
           coalesce(balance.held, 0) AS balance_held,
           coalesce(balance.debt, 0) AS debt
    FROM (SELECT * FROM credit_balances WHERE {accounts}) AS balance
    FULL JOIN ledger USING (tenant_id, product_key)
    FULL JOIN batches USING (tenant_id, product_key)
), per_batch AS (
    SELECT batch_id, sum(moved) AS moved FROM entry WHERE batch_id IS NOT NULL GROUP BY batch_id
), hold AS MATERIALIZED (
    SELECT id, tenant_id, product_key, amount
    FROM reservations
    WHERE state = 'held' AND {accounts}
), slice AS MATERIALIZED (
    SELECT hold.id, hold.product_key, slice.batch_id, slice.amount
    FROM hold JOIN reservation_slices AS slice ON slice.reservation_id = hold.id
), per_hold AS (
    SELECT id, sum(amount) AS amount FROM slice GROUP BY id
), open_hold AS (
    SELECT slice.batch_id, sum(slice.amount) AS held
    FROM slice JOIN products AS product USING (product_key)
    WHERE product.type = 'quantity'
    GROUP BY slice.batch_id
), chain AS (
    SELECT id, tenant_id, product_key, batch_id, balance_after,
           sum(moved) OVER (PARTITION BY tenant_id, product_key ORDER BY id
                            ROWS UNBOUNDED PRECEDING) AS so_far
    FROM entry
), finding (check_, tenant_id, product_key, batch_id, entry_id, reservation_id, expected,
           actual) AS (
    SELECT 'ledger', tenant_id, product_key, CAST(NULL AS uuid), CAST(NULL AS bigint),
           CAST(NULL AS uuid), moved, balance
    FROM account WHERE moved <> balance
    UNION ALL
    SELECT 'batches', tenant_id, product_key, NULL, NULL, NULL, remaining - debt, balance
    FROM account WHERE remaining - debt <> balance
    UNION ALL
    SELECT 'debt', tenant_id, product_key, NULL, NULL, NULL, moved_debt, debt
    FROM account WHERE moved_debt <> debt
    UNION ALL
    SELECT 'held', tenant_id, product_key, NULL, NULL, NULL, batches_held, balance_held
    FROM account WHERE batches_held <> balance_held
    UNION ALL
    SELECT 'holds', batch.tenant_id, batch.product_key, batch.id, NULL, NULL,
           coalesce(open_hold.held, 0), batch.held_amount
    FROM batch LEFT JOIN open_hold ON open_hold.batch_id = batch.id
    WHERE coalesce(open_hold.held, 0) <> batch.held_amount
    UNION ALL
    SELECT 'slices', hold.tenant_id, hold.product_key, NULL, NULL, hold.id,
           coalesce(per_hold.amount, 0), hold.amount
    FROM hold LEFT JOIN per_hold USING (id)
    WHERE coalesce(per_hold.amount, 0) <> hold.amount
    UNION ALL
    SELECT 'batch', batch.tenant_id, batch.product_key, batch.id, NULL, NULL,
           coalesce(per_batch.moved, 0), batch.remaining_amount
    FROM batch LEFT JOIN per_batch ON per_batch.batch_id = batch.id
    WHERE coalesce(per_batch.moved, 0) <> batch.remaining_amount
    UNION ALL
    SELECT 'remaining', tenant_id, product_key, id, NULL, NULL,
           least(greatest(remaining_amount, 0), initial_amount), remaining_amount
    FROM batch WHERE remaining_amount NOT BETWEEN 0 AND initial_amount
    UNION ALL
    SELECT 'set_aside', tenant_id, product_key, id, NULL, NULL,
           least(greatest(held_amount, 0), remaining_amount), held_amount
    FROM batch WHERE held_amount NOT BETWEEN 0 AND remaining_amount
    UNION ALL
    SELECT 'chain', tenant_id, product_key, batch_id, id, NULL, so_far, balance_after
    FROM chain WHERE so_far <> balance_after
)
SELECT check_, tenant_id, product_key, batch_id, entry_id, reservation_id, expected, actual
FROM finding
ORDER BY tenant_id, product_key, check_, entry_id, batch_id, reservation_id
LIMIT :most
"""

_AUDIT_REST = text(_CHECKS.format(accounts=_BEHIND))
_AUDIT_CHUNK = text(_CHECKS.format(accounts=f"{_BEHIND} AND {_UNTIL}"))

"""Forgetting who a tenant is, and keeping what was bought, used and owed.

What is erased, and what is kept and why, is said in docs/decisions/0019-tenants-that-become-one.md.
A tenant's aliases are the same person: all of it holds for them too.
"""

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final, cast

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.rules.states import OWED_INVOICE_STATES

PERSONAL: Final = frozenset(
    {
        "address",
        "billed_to",
        "description",
        "external_id",
        "headers",
        "identities",
        "metadata",
        "name",
        "profile",
        "tax_number",
    }
)
"""Fields of a kept answer that may say who somebody is."""


class NotSettled(Refusal):
    """Something is owed to or by the tenant, or still runs."""

    code: ClassVar[str] = "tenant.not_settled"


def lock(session: Session, tenant_ids: Sequence[str]) -> None:
    """Lock the tenants for billing, in order."""
    session.execute(_LOCK, {"tenant_ids": sorted(tenant_ids)})


def unsettled(session: Session, tenant_ids: Sequence[str], *, now: dt.datetime) -> list[str]:
    """Return what is owed or still runs, a sentence each. The tenants are locked."""
    given = {
        "tenant_ids": list(tenant_ids),
        "now": now,
        "owed": sorted(OWED_INVOICE_STATES),
    }
    return list(session.scalars(_UNSETTLED, given))


def erase(
    session: Session, tenant_ids: Sequence[str], *, actor: str, now: dt.datetime
) -> dict[str, int]:
    """Forget who the locked tenants are; return how many rows of each table were changed."""
    given = {"tenant_ids": list(tenant_ids), "now": now, "actor": actor}
    changed = {}
    for table, template in _ERASE.items():
        statement = template.replace("MINE", _MINE)
        bound = {name: value for name, value in given.items() if f":{name}" in statement}
        done = cast("CursorResult[Any]", session.execute(text(statement), bound))
        changed[table] = done.rowcount
    changed["idempotency_keys"] = _strip_answers(session, tenant_ids)
    return {table: count for table, count in changed.items() if count}


def without_persons(value: Any) -> Any:
    """Return an answer without what may say who somebody is."""
    if isinstance(value, dict):
        return {
            key: None if key in PERSONAL else without_persons(item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_persons(item) for item in value]
    return value


def _strip_answers(session: Session, tenant_ids: Sequence[str]) -> int:
    """The keys stay, with an answer: without one the same call would be carried out again."""
    named = '"(' + "|".join(map(re.escape, sorted(PERSONAL))) + ')"'
    rows = session.execute(_ANSWERS, {"tenant_ids": list(tenant_ids), "named": named}).all()
    for row in rows:
        session.execute(
            _KEEP_ANSWER,
            {
                "tenant_id": row.tenant_id,
                "operation": row.operation,
                "key": row.key,
                "answer": without_persons(row.answer),
            },
        )
    return len(rows)


_LOCK = text("""
    SELECT FROM tenants WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
    ORDER BY tenant_id FOR NO KEY UPDATE
""")

_UNSETTLED = text("""
    SELECT 'invoice ' || coalesce(number, id::text || ' (a draft)') || ' is open'
    FROM invoices WHERE tenant_id = ANY(CAST(:tenant_ids AS text[])) AND (
        state = 'draft' OR (state = ANY(CAST(:owed AS text[])) AND state <> 'uncollectible'
                            AND amount_due_minor - paid_minor - reduced_minor <> 0))
    UNION ALL
    SELECT 'subscription ' || id::text || ' of plan ' || plan_key || ' runs or is to be invoiced'
    FROM subscriptions WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
      AND (next_invoice_at IS NOT NULL OR ended_at IS NULL OR ended_at > :now)
    UNION ALL
    SELECT 'order ' || id::text || ' waits for its payment'
    FROM orders WHERE tenant_id = ANY(CAST(:tenant_ids AS text[])) AND state = 'pending'
    UNION ALL
    SELECT product_key || CASE WHEN debt > 0 THEN ' is owed' ELSE ' has credit left' END
    FROM credit_balances
    WHERE tenant_id = ANY(CAST(:tenant_ids AS text[])) AND (debt > 0 OR balance > 0 OR held > 0)
    UNION ALL
    SELECT 'usage of ' || source_id || ' is still to follow' FROM tenant_merges
    WHERE source_id = ANY(CAST(:tenant_ids AS text[])) AND usage_moved_at IS NULL
""")

_MINE = "tenant_id = ANY(CAST(:tenant_ids AS text[]))"

_ERASE = {
    "tenants": """
        UPDATE tenants
        SET name = NULL, address = NULL, tax_number = NULL, metadata = '{}', erased_at = :now,
            version = version + 1, updated_at = :now
        WHERE MINE
    """,
    "tenant_identities": "DELETE FROM tenant_identities WHERE MINE",
    "subscriptions": """
        UPDATE subscriptions SET metadata = '{}' WHERE MINE AND metadata <> '{}'
    """,
    "credit_batches": """
        UPDATE credit_batches SET metadata = '{}', revoked_by = NULL
        WHERE MINE AND (metadata <> '{}' OR revoked_by IS NOT NULL)
    """,
    "reservations": """
        UPDATE reservations SET metadata = '{}', reason = NULL, release_reason = NULL
        WHERE MINE AND (metadata <> '{}' OR reason IS NOT NULL OR release_reason IS NOT NULL)
    """,
    "orders": "UPDATE orders SET metadata = '{}' WHERE MINE AND metadata <> '{}'",
    # That an identity had its trial stays known: as a digest that says nothing.
    "trials": "UPDATE trials SET metadata = '{}' WHERE MINE AND metadata <> '{}'",
    "referrals": """
        UPDATE referrals SET metadata = '{}'
        WHERE metadata <> '{}'
          AND (referee_tenant_id = ANY(CAST(:tenant_ids AS text[]))
               OR referrer_tenant_id = ANY(CAST(:tenant_ids AS text[])))
    """,
    "endpoints": """
        UPDATE endpoints
        SET headers = '{}', description = NULL, metadata = '{}', version = version + 1,
            updated_at = :now
        WHERE MINE
    """,
    # What the payload was is gone, so nobody can send it again; that something came is kept.
    "rejected_messages": """
        UPDATE rejected_messages
        SET payload = '{"erased": true}', errors = '[]', message_id = NULL,
            payload_hash = sha256(convert_to('erased ' || id, 'UTF8')),
            resolved_at = coalesce(resolved_at, :now), resolved_by = coalesce(resolved_by, :actor),
            state = CASE state WHEN 'open' THEN 'discarded' ELSE state END
        WHERE MINE
    """,
}

# A command that is given an order or a hold is kept without a tenant, whom only its answer names.
_ANSWERS = text("""
    SELECT tenant_id, operation, key, answer FROM idempotency_keys
    WHERE answer::text ~ :named AND (
        tenant_id = ANY(CAST(:tenant_ids AS text[])) OR (tenant_id = '' AND EXISTS (
            SELECT FROM jsonb_path_query(answer, '$.**.tenant_id') AS named
            WHERE named #>> '{}' = ANY(CAST(:tenant_ids AS text[]))
        ))
    )
    ORDER BY tenant_id, operation, key FOR UPDATE
""")

_KEEP_ANSWER = text("""
    UPDATE idempotency_keys SET answer = :answer
    WHERE tenant_id = :tenant_id AND operation = :operation AND key = :key
""").bindparams(bindparam("answer", type_=JSONB))

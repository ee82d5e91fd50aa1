"""Invoices on their way to a provider: begun with their number, woken by what becomes of them."""

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import orjson
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.store.invoice import Header


class UnknownSync(Refusal):
    """The invoice is not on its way to a provider."""

    code: ClassVar[str] = "sync.unknown"


def begin(session: Session, headers: Sequence[Header], *, provider: str, now: dt.datetime) -> None:
    """Let numbered invoices be sent to a provider; those that are on their way stay as they are."""
    if not headers:
        return
    rows = [{"invoice_id": header.id, "tenant_id": header.tenant_id} for header in headers]
    session.execute(_BEGIN, {"rows": orjson.dumps(rows).decode(), "provider": provider, "now": now})


def change(session: Session, invoice_id: UUID, *, now: dt.datetime) -> None:
    """Let a provider that has an invoice be told of what became of it.

    Whoever is at it just now has the row's lock when he looks at the invoice a last time: either he
    sees what changed, or this sees that he has finished.
    """
    session.execute(_CHANGE, {"invoice_id": invoice_id, "now": now})


def know_customer(
    session: Session, *, provider: str, tenant_id: str, remote_id: str, now: dt.datetime
) -> None:
    """Remember a tenant's id at a provider."""
    session.execute(
        _KNOW_CUSTOMER,
        {"provider": provider, "tenant_id": tenant_id, "remote_id": remote_id, "now": now},
    )


def retry(
    session: Session, invoice_id: UUID, *, provider: str, anew: bool, now: dt.datetime
) -> None:
    """Let an invoice that failed be tried again, now and as a new request; one that waits, now.

    Args:
        anew: forget what the provider has of it, if that was not final.
    """
    values = {"invoice_id": invoice_id, "provider": provider, "anew": anew, "now": now}
    session.execute(_RETRY, values)


# In the order of tenants, so that two transactions do not wait for one another crosswise.
_BEGIN = sql("""
    WITH given AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS g(invoice_id uuid, tenant_id text)
    ), customers AS (
        INSERT INTO provider_customers (provider, tenant_id, created_at, updated_at)
        SELECT DISTINCT :provider, tenant_id, CAST(:now AS timestamptz), CAST(:now AS timestamptz)
        FROM given ORDER BY tenant_id
        ON CONFLICT DO NOTHING
    )
    INSERT INTO invoice_syncs (invoice_id, provider, tenant_id, due_at, created_at, updated_at)
    SELECT invoice_id, :provider, tenant_id, :now, :now, :now FROM given
    ON CONFLICT DO NOTHING
""")

_CHANGE = sql("""
    UPDATE invoice_syncs
    SET due_at = CASE WHEN state = 'synced' THEN :now ELSE due_at END,
        state = CASE WHEN state = 'synced' THEN 'pending' ELSE state END, updated_at = :now
    WHERE invoice_id = :invoice_id
""")

_KNOW_CUSTOMER = sql("""
    INSERT INTO provider_customers AS c (provider, tenant_id, remote_id, created_at, updated_at)
    VALUES (:provider, :tenant_id, :remote_id, :now, :now)
    ON CONFLICT (provider, tenant_id) DO UPDATE
    SET remote_id = excluded.remote_id, updated_at = excluded.updated_at
    WHERE c.remote_id IS DISTINCT FROM excluded.remote_id
""")

_RETRY = sql("""
    UPDATE invoice_syncs
    SET state = 'pending', due_at = least(due_at, :now), updated_at = :now,
        attempts = CASE WHEN state = 'failed' THEN 0 ELSE attempts END,
        series = series + CASE WHEN state = 'failed' THEN 1 ELSE 0 END,
        done = CASE WHEN :anew AND NOT done ? 'finalize' THEN '{}' ELSE done END
    WHERE invoice_id = :invoice_id AND provider = :provider AND state IN ('pending', 'failed')
""")

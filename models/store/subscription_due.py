"""Subscriptions with an invoice due: claimed, and moved on when a period was invoiced."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import func, select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules import billing
from models.subscription import Subscription


def claim_due_tenants(
    session: Session,
    *,
    now: dt.datetime,
    limit: int,
    after: str = "",
    only: str | None = None,
    excluding: Sequence[str] = (),
) -> dict[str, str]:
    """Lock tenants with a due subscription that nobody else holds; return their timezones by id.

    In the order of their ids, from the one that follows `after`. What is due must be read in a
    later statement: another worker may have billed a tenant just before its row was free.
    """
    rows = session.execute(
        sql("""
            SELECT tenant_id, timezone FROM tenants
            WHERE tenant_id > :after
              AND (CAST(:only AS text) IS NULL OR tenant_id = :only)
              AND tenant_id <> ALL(CAST(:excluding AS text[]))
              AND EXISTS (SELECT FROM subscriptions
                          WHERE subscriptions.tenant_id = tenants.tenant_id
                            AND next_invoice_at <= :now)
            ORDER BY tenant_id
            LIMIT :limit
            -- NO KEY: rows that refer to the tenant may come in meanwhile.
            FOR NO KEY UPDATE SKIP LOCKED
        """),
        {
            "after": after,
            "only": only,
            "excluding": list(excluding),
            "now": now,
            "limit": limit,
        },
    )
    return {row.tenant_id: row.timezone for row in rows}


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a subscription was billed, and when its next invoice is due."""

    subscription_id: UUID
    billed_until: dt.date | None
    next_invoice_at: dt.datetime | None
    fees_due_at: dt.datetime | None
    fees_from: dt.date | None


def moved(one: billing.Subscription, zone: ZoneInfo) -> Advance:
    """Return how far a subscription was billed, with when its next invoice is due from then on."""
    return Advance(
        subscription_id=one.id,
        billed_until=one.billed_until,
        next_invoice_at=billing.due_at(one, zone),
        fees_due_at=one.fees_due_at,
        fees_from=one.fees_from,
    )


def advance(session: Session, advances: Sequence[Advance]) -> None:
    """Move subscriptions on. Not a new version: what the tenant agreed to is the same."""
    if not advances:
        return
    session.execute(
        sql("""
            UPDATE subscriptions
            SET billed_until = moved.billed_until, next_invoice_at = moved.next_invoice_at,
                fees_due_at = moved.fees_due_at, fees_from = moved.fees_from
            FROM json_to_recordset(CAST(:rows AS json)) AS moved(
                subscription_id uuid, billed_until date, next_invoice_at timestamptz,
                fees_due_at timestamptz, fees_from date)
            WHERE subscriptions.id = moved.subscription_id
        """),
        {"rows": orjson.dumps(advances).decode()},
    )


def first_due_at(session: Session, tenant_id: str) -> dt.datetime | None:
    """Return when the tenant's oldest outstanding invoice fell due; None if nothing is due."""
    return session.execute(
        select(func.min(Subscription.next_invoice_at)).where(Subscription.tenant_id == tenant_id)
    ).scalar_one()

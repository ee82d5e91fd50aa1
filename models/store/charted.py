"""What plots are drawn from: usage by day, credit by day and cause, attempts one by one.

For a period that fits on a page. Reads whole tables of attempts and entries: not for a system
that has run for months.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class UsageDay:
    """What a tenant used of a metric on one of its local days."""

    tenant_id: str
    metric: str
    day: dt.date
    total: Decimal


@dataclass(frozen=True, slots=True)
class CreditDay:
    """What a cause came to on one UTC day; below zero where it took credit away."""

    tenant_id: str
    day: dt.date
    action: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Tried:
    """One HTTP attempt. `status` is None where no answer came; `latency_ms` in milliseconds."""

    delivery_id: int
    number: int
    at: dt.datetime
    outcome: str
    status: int | None
    latency_ms: int


def usage_by_day(session: Session, *, first: dt.date, after: dt.date) -> list[UsageDay]:
    """Return the daily totals of local days in `[first, after)`, by metric, day and tenant."""
    rows = session.execute(USAGE_BY_DAY, {"first": first, "after": after})
    return [UsageDay(row.tenant_id, row.metric, row.day, row.total) for row in rows]


def credit_by_day(session: Session, product_key: str) -> list[CreditDay]:
    """Return what the ledger says of a product, by day, tenant and cause."""
    rows = session.execute(CREDIT_BY_DAY, {"product_key": product_key})
    return [CreditDay(row.tenant_id, row.day, row.action, row.amount) for row in rows]


def attempts(session: Session) -> list[Tried]:
    """Return every attempt, oldest first."""
    rows = session.execute(ATTEMPTS)
    return [
        Tried(
            row.delivery_id,
            row.attempt_number,
            row.attempted_at,
            row.outcome,
            row.status,
            row.latency_ms,
        )
        for row in rows
    ]


USAGE_BY_DAY = text("""
    SELECT * FROM (
        SELECT one.tenant_id, one.metric, one.total,
               (one.period_start AT TIME ZONE tenants.timezone)::date AS day
        FROM usage_aggregates AS one JOIN tenants USING (tenant_id)
        WHERE one.granularity = 'day'
    ) AS days
    WHERE day >= :first AND day < :after
    ORDER BY metric, day, tenant_id
""")

# Entries that record a use without taking anything away (direction USE) move no balance.
CREDIT_BY_DAY = text("""
    SELECT tenant_id, (created_at AT TIME ZONE 'UTC')::date AS day, action,
           sum(CASE direction WHEN 'CREDIT' THEN amount ELSE -amount END) AS amount
    FROM ledger_entries
    WHERE product_key = :product_key AND direction <> 'USE'
    GROUP BY tenant_id, day, action
    ORDER BY day, tenant_id, action
""")

ATTEMPTS = text("""
    SELECT delivery_id, attempt_number, attempted_at, outcome, status, latency_ms
    FROM delivery_attempts
    ORDER BY attempted_at, id
""")

"""What was used in the days that are billed."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import orjson
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules.period import Period


@dataclass(frozen=True, slots=True)
class Window:
    """A metric of a tenant over a run of whole local days."""

    tenant_id: str
    metric: str
    period: Period


def totals(session: Session, windows: Sequence[Window]) -> list[Decimal]:
    """Return the sum of the daily aggregates of each window, in the same order; 0 for none."""
    if not windows:
        return []
    wanted = [
        {
            "position": position,
            "tenant_id": window.tenant_id,
            "metric": window.metric,
            "starts_at": window.period.start,
            "ends_at": window.period.end,
        }
        for position, window in enumerate(windows)
    ]
    rows = session.execute(
        sql("""
            SELECT coalesce(used.total, 0)
            FROM jsonb_to_recordset(CAST(:windows AS jsonb)) AS wanted(
                position integer, tenant_id text, metric text, starts_at timestamptz,
                ends_at timestamptz)
            -- LATERAL: each window is one short range of the primary key, whatever the planner
            -- believes of their number.
            LEFT JOIN LATERAL (
                SELECT sum(total) AS total FROM usage_aggregates
                WHERE tenant_id = wanted.tenant_id AND metric = wanted.metric
                  AND granularity = 'day'
                  AND period_start >= wanted.starts_at AND period_start < wanted.ends_at
            ) AS used ON true
            ORDER BY position
        """),
        {"windows": orjson.dumps(wanted).decode()},
    )
    return list(rows.scalars())


def tenants_to_roll_up(
    session: Session, tenant_ids: Sequence[str], *, before: dt.datetime
) -> list[str]:
    """Return the tenants with usage before an instant that no aggregate counts yet, in order."""
    rows = session.execute(
        sql("""
            SELECT DISTINCT tenant_id FROM usage_touched_days
            WHERE tenant_id = ANY(:tenant_ids) AND first_at < :before
            ORDER BY tenant_id
        """),
        {"tenant_ids": list(tenant_ids), "before": before},
    )
    return list(rows.scalars())

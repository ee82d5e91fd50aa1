"""What tenants may use at an instant: their own entitlements, and those of their plans."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules import period
from models.rules.quota import Right, Window


@dataclass(frozen=True, slots=True)
class Rights:
    """What a tenant may use at an instant: the rights to each metric. Days are of its `zone`."""

    zone: ZoneInfo
    by_metric: Mapping[str, Sequence[Right]]


def find(
    session: Session,
    tenant_ids: Sequence[str],
    *,
    metrics: Sequence[str] | None = None,
    at: dt.datetime,
) -> dict[str, Rights]:
    """Return what tenants may use at an instant, by tenant; a tenant without any right is absent.

    Args:
        metrics: which rights to look for; None is all.
    """
    rows = session.execute(
        RIGHTS,
        {
            "tenant_ids": list(tenant_ids),
            "metrics": None if metrics is None else list(metrics),
            "at": at,
        },
    )
    zones: dict[str, ZoneInfo] = {}
    found: dict[str, dict[str, list[Right]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        zones[row.tenant_id] = period.zone(row.timezone)
        found[row.tenant_id][row.metric].append(
            Right(
                window=Window(row.window_unit),
                limit=row.limit_amount,
                is_soft=row.is_soft,
                per_seat=row.per_seat,
                quantity=row.quantity,
                plan_key=row.plan_key,
            )
        )
    return {
        tenant_id: Rights(zones[tenant_id], by_metric) for tenant_id, by_metric in found.items()
    }


_IN_FORCE = """
    (CAST(:metrics AS text[]) IS NULL OR held.metric = ANY(CAST(:metrics AS text[])))
    AND held.effective_at <= :at AND (held.ended_at IS NULL OR :at < held.ended_at)
"""

RIGHTS = text(f"""
    SELECT tenants.tenant_id, tenants.timezone, held.*
    FROM tenants CROSS JOIN LATERAL (
        SELECT metric, window_unit, limit_amount, is_soft, per_seat, 1::numeric AS quantity,
               plan_key
        FROM entitlements AS held
        WHERE held.tenant_id = tenants.tenant_id AND {_IN_FORCE}
        UNION ALL
        SELECT metric, window_unit, limit_amount, is_soft, per_seat,
               coalesce(
                   (SELECT quantity FROM subscription_quantities AS changed
                    WHERE changed.subscription_id = subscription.id AND changed.effective_at <= :at
                    ORDER BY changed.effective_at DESC LIMIT 1),
                   subscription.quantity),
               held.plan_key
        FROM subscriptions AS subscription
        JOIN entitlements AS held ON held.plan_key = subscription.plan_key
        WHERE subscription.tenant_id = tenants.tenant_id
          AND subscription.effective_at <= :at
          AND (subscription.ended_at IS NULL OR :at < subscription.ended_at)
          AND {_IN_FORCE}
    ) AS held
    WHERE tenants.tenant_id = ANY(CAST(:tenant_ids AS text[]))
""")  # noqa: S608 (a constant of this module)

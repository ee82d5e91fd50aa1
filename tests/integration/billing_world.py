"""A small world to bill: plans, tenants, days of usage, and what was said of it all."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import text

from models import database
from models.rules import period
from tasks.plans import set_plan
from tasks.subscriptions import set_subscription
from tasks.tenants import set_tenant

START = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)
"""When the plans of these tests are made."""


def usage_price(metric: str, unit_amount: str, **more: Any) -> dict[str, Any]:
    return {
        "price_key": metric,
        "kind": "usage",
        "metric": metric,
        "model": "per_unit",
        "unit_amount": unit_amount,
        "currency": "USD",
        **more,
    }


def fee(unit_amount: str, **more: Any) -> dict[str, Any]:
    return {
        "price_key": "base",
        "kind": "fixed",
        "model": "fixed",
        "unit_amount": unit_amount,
        "currency": "USD",
        **more,
    }


def make_plan(*prices: dict[str, Any], plan_key: str = "pro", **more: Any) -> Any:
    arguments: dict[str, Any] = {"name": plan_key.title(), "as_of": START, **more}
    return set_plan(plan_key=plan_key, **arguments, prices=cast("Any", list(prices)))


def subscribe(
    tenant_id: str,
    effective_at: str,
    *,
    timezone: str = "UTC",
    plan_key: str = "pro",
    **more: Any,
) -> Any:
    set_tenant(tenant_id=tenant_id, timezone=timezone)
    return set_subscription(
        tenant_id=tenant_id,
        plan_key=plan_key,
        effective_at=instant(effective_at),
        idempotency_key=f"{plan_key}:{effective_at}",
        **more,
    )


def use(tenant_id: str, metric: str, day: str, total: str, *, timezone: str = "UTC") -> None:
    """Put the total of one local day where the roll-up puts it; again replaces it."""
    bounds = period.day_bounds(dt.date.fromisoformat(day), period.zone(timezone))
    with database.transaction() as session:
        session.execute(
            text("""
                INSERT INTO usage_aggregates (tenant_id, metric, granularity, period_start,
                                              period_end, total, event_count, version)
                VALUES (:tenant_id, :metric, 'day', :start, :end, :total, 1, 1)
                ON CONFLICT (tenant_id, metric, granularity, period_start)
                DO UPDATE SET total = excluded.total
            """),
            {
                "tenant_id": tenant_id,
                "metric": metric,
                "start": bounds.start,
                "end": bounds.end,
                "total": Decimal(total),
            },
        )


def instant(written: str) -> dt.datetime:
    """An instant as ISO 8601; UTC if it names no zone."""
    at = dt.datetime.fromisoformat(written)
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)


def query(statement: str, **parameters: Any) -> list[Any]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), parameters)]


def said(topic: str) -> list[dict[str, Any]]:
    """The bodies of the events of a topic, oldest first."""
    rows = query("SELECT body FROM outbox_messages WHERE type = :topic ORDER BY id", topic=topic)
    return [json.loads(bytes(body)) for (body,) in rows]

"""Words for stories about quotas: short calls, and a look at what the tables hold."""

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from models import database
from tasks.entitlements import end_entitlement, set_entitlement
from tasks.quotas import check_entitlement, consume_entitlement
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tasks.usage_voids import void_usage

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""When the entitlements of these tests are set."""

NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)


def at(written: str) -> dt.datetime:
    """An instant as ISO 8601; UTC if it names no zone."""
    given = dt.datetime.fromisoformat(written)
    return given if given.tzinfo else given.replace(tzinfo=dt.UTC)


def allow(limit: Any, *, zone: str | None = None, **more: Any) -> Any:
    """Set an entitlement of the tenant acme to the metric api, unless told otherwise."""
    if zone is not None:
        set_tenant(tenant_id=more.get("tenant_id", "acme"), timezone=zone)
    owner = {} if "plan_key" in more else {"tenant_id": "acme"}
    arguments = {"metric": "api", "window": "month", "as_of": START, **owner, **more}
    return set_entitlement(limit=None if limit is None else str(limit), **arguments)


def disallow(**more: Any) -> Any:
    owner = {} if "plan_key" in more else {"tenant_id": "acme"}
    return end_entitlement(**{"metric": "api", "window": "month", **owner, **more})


def check(amount: Any = 1, *, when: Any = NOON, **more: Any) -> Any:
    arguments = {"tenant_id": "acme", "metric": "api", **more}
    return check_entitlement(**arguments, amount=str(amount), as_of=when)


def use(amount: Any, key: str, *, when: Any = NOON, **more: Any) -> Any:
    arguments = {"tenant_id": "acme", "metric": "api", **more}
    return consume_entitlement(**arguments, amount=str(amount), idempotency_key=key, as_of=when)


def record(amount: Any, key: str, *, when: Any = NOON, **more: Any) -> Any:
    """Record usage past the quota."""
    event = {"tenant_id": "acme", "metric": "api", "at": when, **more}
    answer = record_usage(**event, amount=str(amount), idempotency_key=key, as_of=when)
    assert answer["verdicts"] == ["accepted"]
    return answer


def void(key: str, *, when: Any = NOON, **more: Any) -> Any:
    event = {"tenant_id": "acme", "metric": "api", **more}
    return void_usage(**event, idempotency_key=key, reason="a test", as_of=when)


def used(*, when: Any = NOON, window: str = "month", **more: Any) -> Decimal:
    """What a check says was used in a window."""
    windows = {one["window"]: one for one in check(when=when, **more)["windows"]}
    return Decimal(windows[window]["used"])


def counters() -> list[tuple[Any, ...]]:
    """Tenant, metric, window, its start and what was used in it, of each counter."""
    return rows("""
        SELECT tenant_id, metric, window_unit, window_start, used FROM quota_counters
        ORDER BY tenant_id, metric, window_unit, window_start
    """)


def rows(statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), parameters)]

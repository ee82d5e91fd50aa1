"""Words for stories about plans' credit: a plan, a tenant on it, renewals."""

import datetime as dt
from typing import Any

from tasks.allocations import allocate_subscription_credits, renew_subscriptions
from tasks.plans import set_plan
from tasks.subscriptions import end_subscription, set_subscription
from tasks.tenants import set_tenant
from tests.integration.billing_world import START, instant, query


def give(limit: Any = "100", product_key: str = "CALLS", **terms: Any) -> dict[str, Any]:
    """Terms of a plan's credit."""
    return {"product_key": product_key, "credit_limit": str(limit), **terms}


def plan(*given: dict[str, Any], at: dt.datetime = START, **more: Any) -> Any:
    """Make the plan `pro` give so much."""
    arguments: Any = {"plan_key": "pro", "name": "Pro", "prices": [], "credits": list(given)}
    return set_plan(**{**arguments, **more}, as_of=at)


def join(at: str, *, tenant_id: str = "acme", timezone: str = "UTC", **more: Any) -> str:
    """Put a tenant on the plan at an instant, then; return the subscription's id."""
    set_tenant(tenant_id=tenant_id, timezone=timezone)
    arguments = {"plan_key": "pro", "idempotency_key": f"join {at}", "as_of": instant(at)}
    arguments["effective_at"] = instant(at)
    made = set_subscription(tenant_id=tenant_id, **{**arguments, **more})
    return str(made["subscription_id"])


def renew(at: str) -> Any:
    """Ring the renewal at an instant."""
    return renew_subscriptions(as_of=instant(at))


def ask(subscription_id: str, at: str) -> Any:
    return allocate_subscription_credits(subscription_id=subscription_id, as_of=instant(at))


def end(subscription_id: str, ended_at: str, *, at: str) -> Any:
    return end_subscription(
        subscription_id=subscription_id, ended_at=instant(ended_at), as_of=instant(at)
    )


def granted(product_key: str = "CALLS") -> list[tuple[Any, ...]]:
    """Source, amount, begin and end of each batch, as days and plain numbers, by begin."""
    rows = query(
        """
        SELECT source, initial_amount, valid_from, expires_at FROM credit_batches
        WHERE product_key = :key ORDER BY created_at, valid_from, priority, id
        """,
        key=product_key,
    )
    return [(source, int(amount), _day(begin), _day(over)) for source, amount, begin, over in rows]


def given() -> list[tuple[Any, ...]]:
    """First day, amount and what was carried of each allocation that counts, and if granted."""
    rows = query("""
        SELECT first_day, amount, carried, batch_id FROM credit_allocations
        WHERE withdrawn_at IS NULL ORDER BY subscription_id, first_day, product_key
    """)
    return [
        (day.isoformat(), int(amount), None if carried is None else int(carried), batch is not None)
        for day, amount, carried, batch in rows
    ]


def _day(at: dt.datetime | None) -> str | None:
    if at is None:
        return None
    written = at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M")
    return written.removesuffix("T00:00")

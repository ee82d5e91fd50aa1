"""Events of usage and of quotas."""

from typing import Literal

from webhooks.events.event import Event, Instant, Quantity


class UsageAggregated(Event):
    """A day's total of a metric is new or has changed. `day_start` is local midnight."""

    topic = "billing.usage_aggregated"

    tenant_id: str
    metric: str
    day_start: Instant
    total: Quantity


class UsageDrifted(Event):
    """A day's total was not what its events come to: a fault. The next roll-up counts it anew."""

    topic = "billing.usage_drifted"
    for_operator = True

    tenant_id: str
    metric: str
    day_start: Instant
    stored: Quantity | None
    counted: Quantity


class QuotaExceeded(Event):
    """A tenant was refused for a metric's limit, or went beyond it, for the first time in a window.

    `soft`: use beyond the limit is allowed. The window begins anew at `resets_at`.
    """

    topic = "billing.quota_exceeded"

    tenant_id: str
    metric: str
    window: Literal["day", "month"]
    window_start: Instant
    resets_at: Instant
    limit: Quantity
    used: Quantity
    soft: bool


class QuotaDrifted(Event):
    """A quota's counter was not what its window's events come to: a fault. It has been mended."""

    topic = "billing.quota_drifted"
    for_operator = True

    tenant_id: str
    metric: str
    window: Literal["day", "month"]
    window_start: Instant
    stored: Quantity
    counted: Quantity

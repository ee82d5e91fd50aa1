"""Events of subscriptions."""

from uuid import UUID

from webhooks.events.event import Event, Instant, Quantity


class SubscriptionSet(Event):
    """A tenant was put on a plan, or the terms of it were changed.

    `quantity` are the seats it will have, from `quantity_from` on.
    """

    topic = "billing.subscription_set"

    tenant_id: str
    subscription_id: UUID
    plan_key: str
    quantity: Quantity
    effective_at: Instant
    ended_at: Instant | None
    trial_ends_at: Instant | None = None
    quantity_from: Instant | None = None


class SubscriptionUpgraded(Event):
    """A tenant changed its plan, up or down: one subscription replaces another from an instant on.

    It may lie ahead, at the end of the billing period.
    """

    topic = "billing.subscription_upgraded"

    tenant_id: str
    subscription_id: UUID
    replaced_subscription_id: UUID
    plan_key: str
    replaced_plan_key: str
    effective_at: Instant

"""What a tenant is subscribed to, read."""

from typing import TypedDict
from uuid import UUID

from models import database
from models.store import subscription
from tasks import contract, fields, subscriptions
from tasks.queues import Queue
from tasks.subscriptions import SubscriptionAnswer


class SubscriptionsAnswer(TypedDict):
    """A tenant's subscriptions, ended ones too, oldest first."""

    subscriptions: list[SubscriptionAnswer]


@contract.command("billing.list_subscriptions", queue=Queue.billing)
def list_subscriptions(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionsAnswer:
    """List a tenant's subscriptions, those that ended and those to come too, oldest first.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        tenant_id: whose.
    """
    found = subscription.of_tenants(session, [tenant_id])
    found.sort(key=lambda one: (one.effective_at, one.id))
    return {"subscriptions": [subscriptions.answer(one, as_of) for one in found]}


@contract.command("billing.get_subscription", queue=Queue.billing)
def get_subscription(
    session: database.Session,
    *,
    subscription_id: UUID,
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionAnswer:
    """Answer with a subscription, and how many seats it had and will have.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        subscription_id: which one.
    """
    return subscriptions.answer(subscription.get(session, subscription_id), as_of)

"""Test events: does what we send to an endpoint arrive?"""

from typing import TypedDict
from uuid import UUID

from models import database
from models.store import endpoint
from tasks import announce, contract, fields
from tasks.queues import Queue
from webhooks import events


class PingAnswer(TypedDict):
    """A test event on its way; billing.get_delivery tells what becomes of it."""

    endpoint_id: str
    delivery_id: int
    event_id: str


@contract.command("billing.ping_endpoint", queue=Queue.webhooks, scope="endpoint_id")
def ping_endpoint(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> PingAnswer:
    """Send one endpoint a `billing.ping`, whatever it subscribed to, and no other.

    It is a delivery like any other: signed, retried, after what an ordered endpoint stands still
    for, and not before an open circuit lets one through. Runs when somebody sends it. Twice with
    one idempotency key is one event. If it dies half way nothing is sent, and the message comes
    back.

    Args:
        endpoint_id: which; a disabled one is refused (`endpoint.disabled`).
        tenant_id: when given, only an endpoint of this tenant is found.
    """
    found = endpoint.lock_enabled(session, endpoint_id, tenant_id=tenant_id)
    announcement = announce.Announcement(
        events.Ping(endpoint_id=endpoint_id),
        tenant_id=found.tenant_id or announce.OPERATOR,
        sequence=endpoint.next_version(session, endpoint_id),
    )
    event_id, delivery_id = announce.announce_to_one(
        session, announcement, endpoint_id=endpoint_id, now=as_of
    )
    return {"endpoint_id": str(endpoint_id), "delivery_id": delivery_id, "event_id": event_id}

"""Send webhooks: from the outbox to deliveries, from deliveries to signed attempts."""

from typing import Annotated, TypedDict

import structlog
from pydantic import Field

from models import database
from models.rules import ids
from models.rules.states import DeliveryState
from models.store import skipping
from tasks import announce, config, contract, fields, sending
from tasks.queues import Queue

DeliveryId = Annotated[int, Field(ge=1, lt=2**63)]

log = structlog.get_logger(__name__)


class DeliveryAnswer(TypedDict):
    """The state of a delivery after a command; `event_id` is the `webhook-id`."""

    delivery_id: int
    endpoint_id: str
    event_id: str
    state: str


@contract.job("billing.deliver_webhooks", queue=Queue.webhooks)
def deliver_webhooks(*, as_of: fields.Instant = contract.NOW) -> sending.Summary:
    """Send what is due until nothing is, or for a minute; if more is left it rings again.

    Runs every second, and at once after a commit that wrote events. Any number may run side by
    side: what one has leased no other sends. If it dies half way its leases run out within a minute
    (four deadlines of an attempt) and those deliveries are sent again under the same id, so a
    receiver may see one twice.

    Args:
        as_of: what is due then is sent, and waits are counted from there. Leases and signatures
            go by the real clock whatever it says.
    """
    return sending.Run(as_of).go()


@contract.command("billing.skip_delivery", queue=Queue.webhooks)
def skip_delivery(
    session: database.Session,
    *,
    delivery_id: DeliveryId,
    reason: fields.Reason,
    tenant_id: fields.TenantId | None = None,
    as_of: fields.Instant = contract.NOW,
) -> DeliveryAnswer:
    """Give up one delivery: it is never sent, and an ordered endpoint goes on behind it.

    Runs when an operator sends it. One that waits, is held or is dead can be skipped; one that is
    being sent is refused with `delivery.under_way` until the attempt has ended. Twice is harmless:
    it is skipped already. If it dies half way nothing has changed, and the message comes back.

    Args:
        delivery_id: which.
        reason: why, kept beside it.
        tenant_id: when given, only a delivery to this tenant's endpoints is found.
    """
    skipped = skipping.skip(
        session, delivery_id=delivery_id, tenant_id=tenant_id, reason=reason, now=as_of
    )
    if skipped.now:
        log.info("delivery.skipped", delivery_id=delivery_id, reason=reason)
        if config.current().kick:
            database.after_commit(session, "kick sender", announce.kick_sender)
    return {
        "delivery_id": delivery_id,
        "endpoint_id": str(skipped.endpoint_id),
        "event_id": ids.event_id(skipped.message_id),
        "state": DeliveryState.cancelled,
    }

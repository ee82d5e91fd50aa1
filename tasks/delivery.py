"""Send webhooks: from the outbox to deliveries, from deliveries to signed attempts."""

from tasks import contract, fields, sending
from tasks.queues import Queue


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

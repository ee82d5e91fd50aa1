"""Events of endpoints and of deliveries to them."""

from typing import Literal
from uuid import UUID

from webhooks.events.event import Event, Instant


class EndpointDisabled(Event):
    """An endpoint is sent nothing more until an operator enables it; its events are held."""

    topic = "billing.endpoint.disabled"

    endpoint_id: UUID
    reason: str


class EndpointFailing(Event):
    """An endpoint fails: its circuit opened, or nothing has arrived there for 24 or 72 hours."""

    topic = "billing.endpoint.failing"

    endpoint_id: UUID
    notice: Literal["opened", "failing_24h", "failing_72h"]
    failing_since: Instant
    failures: int


class DeliveryDead(Event):
    """A delivery spent its attempts; it is kept and waits for an operator to replay it."""

    topic = "billing.delivery.dead"

    delivery_id: int
    endpoint_id: UUID
    event_id: str
    event_type: str
    attempts: int
    outcome: str
    status: int | None


class Ping(Event):
    """A test event, sent to one endpoint on request."""

    topic = "billing.ping"

    endpoint_id: UUID

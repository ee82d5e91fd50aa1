"""What operators are told of deliveries: endpoints that fail, deliveries that are dead."""

import datetime as dt
from typing import Final

from models import database
from models.rules import ids
from models.store import endpoint
from models.store.claim import Claimed
from models.store.endpoint_health import Locked
from tasks import announce
from webhooks import events
from webhooks.endpoint_condition import Condition, Notice

ABOUT_DELIVERIES: Final = (
    events.DeliveryDead.topic,
    events.EndpointFailing.topic,
    events.EndpointDisabled.topic,
)
"""Of these a dead delivery is not told: two dead endpoints would tell of each other for ever."""


def endpoint_failing(
    session: database.Session,
    locked: Locked,
    *,
    notice: Notice,
    condition: Condition,
    now: dt.datetime,
) -> None:
    """Say that an endpoint fails; the caller holds its lock."""
    announce.announce(
        session,
        events.EndpointFailing(
            endpoint_id=locked.endpoint_id,
            notice=notice.value,
            failing_since=condition.trouble.began_at or now,
            failures=condition.trouble.failures,
        ),
        tenant_id=locked.tenant_id or announce.OPERATOR,
        sequence=endpoint.next_version(session, locked.endpoint_id),
        now=now,
    )


def delivery_dead(
    session: database.Session,
    claimed: Claimed,
    *,
    outcome: str,
    status: int | None,
    now: dt.datetime,
) -> None:
    """Say that a delivery spent its attempts, unless it was such news itself."""
    if claimed.type in ABOUT_DELIVERIES:
        return
    attempts = claimed.attempt_count + 1
    announce.announce(
        session,
        events.DeliveryDead(
            delivery_id=claimed.delivery_id,
            endpoint_id=claimed.endpoint_id,
            event_id=ids.event_id(claimed.message_id),
            event_type=claimed.type,
            attempts=attempts,
            outcome=outcome,
            status=status,
        ),
        tenant_id=claimed.owner or announce.OPERATOR,
        sequence=attempts,
        now=now,
    )

"""Deliveries sent again under the same id: one, or those of an endpoint since an instant."""

from typing import Annotated, Literal, TypedDict
from uuid import UUID

import structlog
from pydantic import Field

from models import database
from models.rules import ids
from models.rules.states import DeliveryState
from models.store import replaying
from tasks import announce, config, contract, fields
from tasks.delivery import DeliveryAnswer, DeliveryId
from tasks.queues import Queue

Replayable = Literal["dead", "pending", "delivered"]

log = structlog.get_logger(__name__)


class ReplaysAnswer(TypedDict):
    """How many are sent again; `next_after` goes on behind them, None when there are no more."""

    endpoint_id: str
    replayed: int
    next_after: int | None


@contract.command("billing.replay_delivery", queue=Queue.webhooks, scope="delivery_id")
def replay_delivery(
    session: database.Session,
    *,
    delivery_id: DeliveryId,
    tenant_id: fields.TenantId | None = None,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> DeliveryAnswer:
    """Send one delivery again now, with the same bytes under the same id.

    One that is dead or delivered gets a full series of attempts, and is marked with when that was;
    one that waits for its next attempt is due at once. Runs when somebody sends it. Twice with one
    idempotency key is one replay. If it dies half way nothing is sent, and the message comes back.

    Args:
        delivery_id: which; one that was skipped or cancelled, or is held, is refused
            (`delivery.not_replayable`), and so is one of a disabled endpoint (`endpoint.disabled`).
        tenant_id: when given, only a delivery to this tenant's endpoints is found.
    """
    found = replaying.replay(session, delivery_id, tenant_id=tenant_id, now=as_of)
    log.info("delivery.replayed", delivery_id=delivery_id)
    _kick(session)
    return {
        "delivery_id": delivery_id,
        "endpoint_id": str(found.endpoint_id),
        "event_id": ids.event_id(found.message_id),
        "state": found.state,
    }


@contract.command("billing.replay_deliveries", queue=Queue.webhooks, scope="endpoint_id")
def replay_deliveries(
    session: database.Session,
    *,
    endpoint_id: UUID,
    since: fields.Instant,
    until: fields.Instant | None = None,
    states: Annotated[list[Replayable], Field(min_length=1)] | None = None,
    topic: str | None = None,
    tenant_id: fields.TenantId | None = None,
    after: Annotated[int, Field(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Field(ge=1, le=replaying.MOST)] = replaying.MOST,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> ReplaysAnswer:
    """Send an endpoint's deliveries again that happened since an instant, a chunk at a time.

    They are sent at the pace of any others: the endpoint's lanes and its rate limit hold. Runs when
    somebody sends it. Twice with one idempotency key is one replay: take a new key for each chunk.
    If it dies half way nothing is sent, and the message comes back.

    Args:
        endpoint_id: which; a disabled one is refused (`endpoint.disabled`).
        since: of events that happened then or later.
        until: of events that happened before; without it up to now.
        states: "dead" (the default), "pending" (those that wait for their next attempt), or
            "delivered" (for a receiver that lost what it had).
        topic: of this type of event, exactly.
        tenant_id: when given, only an endpoint of this tenant is found.
        after: `next_after` of the chunk before.
        limit: how many at once, 1 to 2,000.
    """
    wanted = replaying.Wanted(
        endpoint_id=endpoint_id,
        states={DeliveryState(state) for state in states or ["dead"]},
        since=since,
        until=until,
        type=topic,
    )
    moved = replaying.replay_some(
        session, wanted, tenant_id=tenant_id, after=after, most=limit, now=as_of
    )
    log.info("delivery.replayed_some", endpoint_id=str(endpoint_id), deliveries=len(moved))
    _kick(session)
    return {
        "endpoint_id": str(endpoint_id),
        "replayed": len(moved),
        "next_after": moved[-1] if len(moved) == limit else None,
    }


def _kick(session: database.Session) -> None:
    if config.current().kick:
        database.after_commit(session, "kick sender", announce.kick_sender)

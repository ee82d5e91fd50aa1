"""Deliveries sent again under the same id: one, or what failed or is lacking since an instant."""

from typing import Annotated, Literal, TypedDict
from uuid import UUID

import structlog
from pydantic import Field

from models import database
from models.rules import ids
from models.store import endpoint, replaying
from tasks import announce, config, contract, fields, paging, replay_scope
from tasks.delivery import DeliveryAnswer, DeliveryId
from tasks.queues import Queue

Replayable = Literal["dead", "pending", "delivered", "missing"]

log = structlog.get_logger(__name__)


class ReplaysAnswer(TypedDict):
    """How many a chunk sends again, or would: in all, and by what they were before.

    `next_cursor` goes on behind the chunk, also when it had none; None when there are no more.
    """

    replayed: int
    by_state: dict[str, int]
    dry_run: bool
    next_cursor: str | None


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
    one that waits for its next attempt is due at once, also if an ordered endpoint stands still for
    it; other holds and an open circuit are waited for. Runs when somebody sends it. Twice with one
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


@contract.command("billing.replay_deliveries", queue=Queue.webhooks)
def replay_deliveries(
    session: database.Session,
    *,
    since: fields.Instant,
    until: fields.Instant | None = None,
    endpoint_id: UUID | None = None,
    tenant_id: fields.TenantId | None = None,
    everybody: bool = False,
    states: Annotated[list[Replayable], Field(min_length=1)] | None = None,
    topic: str | None = None,
    dry_run: bool = False,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=replaying.MOST)] = replaying.MOST,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> ReplaysAnswer:
    """Send again what failed since an instant, or what an endpoint never got, a chunk at a time.

    With the same bytes under the same ids, and at the pace of any others: each endpoint's lanes and
    rate limit hold. Runs when somebody sends it. Twice with one idempotency key is one replay: take
    a new key for each chunk. If it dies half way nothing is sent, and the message comes back.

    Args:
        since: of events that happened then or later.
        until: of events that happened before; without it up to now.
        endpoint_id: to this endpoint; a disabled one is refused (`endpoint.disabled`).
        tenant_id: to all of this tenant's endpoints that are enabled; with endpoint_id, only an
            endpoint of this tenant is found.
        everybody: to all enabled endpoints, of every tenant and the operator. One of the three
            must be given.
        states: "dead" (the default); "pending" (those that wait for their next attempt);
            "delivered" (for a receiver that lost what it had); "missing" (events that the endpoint
            asks for and has no delivery of: it was created later, or asked for less then).
        topic: of this type of event, exactly.
        dry_run: count only, and send nothing.
        cursor: `next_cursor` of the chunk before.
        limit: how many at once, 1 to 2,000.
    """
    asked = replay_scope.Asked(
        endpoint_id=endpoint_id,
        tenant_id=tenant_id,
        states=frozenset(states or ["dead"]),
        since=since,
        until=until or as_of,
        topic=topic,
        most=limit,
        dry_run=dry_run,
        now=as_of,
    )
    _require_scope(session, asked, everybody=everybody)
    query = {
        "since": since,
        "until": until,
        "endpoint": endpoint_id,
        "tenant": tenant_id,
        "states": sorted(asked.states),
        "topic": topic,
    }
    place = replay_scope.Place.read(paging.read(cursor, query, str))
    by_state, following = replay_scope.chunk(session, asked, place=place)
    replayed = sum(by_state.values())
    if replayed and not dry_run:
        log.info("delivery.replayed_some", deliveries=replayed, **by_state)
        _kick(session)
    return {
        "replayed": replayed,
        "by_state": by_state,
        "dry_run": dry_run,
        "next_cursor": None if following is None else paging.write(query, following.write()),
    }


def _require_scope(
    session: database.Session, asked: replay_scope.Asked, *, everybody: bool
) -> None:
    is_narrow = asked.endpoint_id is not None or asked.tenant_id is not None
    if everybody == is_narrow:
        raise replay_scope.UnclearScope(
            "what is sent again goes to one endpoint, a tenant's, or everybody's; give endpoint_id "
            "or tenant_id, or everybody=true",
            field="everybody",
        )
    if asked.endpoint_id is not None:
        endpoint.lock_enabled(session, asked.endpoint_id, tenant_id=asked.tenant_id)


def _kick(session: database.Session) -> None:
    if config.current().kick:
        database.after_commit(session, "kick sender", announce.kick_sender)

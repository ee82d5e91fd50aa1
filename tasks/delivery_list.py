"""Deliveries looked up: what went where, how each attempt ended, what was answered."""

import datetime as dt
from typing import Annotated, Any, TypedDict
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from models import database
from models.rules import ids
from models.rules.states import DeliveryState
from models.store import delivery_page
from tasks import contract, fields, paging
from tasks.delivery import DeliveryId
from tasks.queues import Queue

LONGEST_PAGE = 200
"""Deliveries in one answer of billing.list_deliveries."""


def _event_id(value: str) -> str:
    try:
        ids.parse_event_id(value)
    except ids.MalformedEventId as error:
        raise PydanticCustomError("event_id", "{reason}", {"reason": str(error)}) from None
    return value


EventId = Annotated[str, AfterValidator(_event_id)]
"""The `webhook-id` of an event: "evt_" and 32 hexadecimal digits."""


class DeliveryEntry(TypedDict):
    """One event to one endpoint.

    `attempts_made` counts towards the schedule, and begins anew with a replay (`replayed_at`).
    `last_outcome` and `last_status` are how the last attempt ended, None before the first.
    One that is pending goes neither before `due_at` nor before `waits_until`: until then its
    endpoint is left alone, held or with an open circuit. To an ordered one `due_at` is its place.
    `correlation_id` and `traceparent` say whose work told of the event, None where nobody knows.
    """

    delivery_id: int
    endpoint_id: str
    event_id: str
    topic: str
    tenant_id: str
    happened_at: str
    state: str
    attempts_made: int
    due_at: str
    waits_until: str | None
    completed_at: str | None
    replayed_at: str | None
    skip_reason: str | None
    correlation_id: str | None
    traceparent: str | None
    last_outcome: str | None
    last_status: int | None


class AttemptEntry(TypedDict):
    """One HTTP try. `answer` is at most 16 KiB of what the peer said, without control characters:
    of refusals, and of any answer to a `billing.ping`."""

    attempted_at: str
    number: int
    outcome: str
    status: int | None
    latency_ms: int
    error: str | None
    answer: str | None


class DeliveryDetails(DeliveryEntry):
    """A delivery with its attempts, the oldest first, and the event as it is sent."""

    attempts: list[AttemptEntry]
    event: dict[str, Any]


class DeliveryList(TypedDict):
    """Deliveries, the newest first; `next_cursor` asks for the next page, None on the last."""

    deliveries: list[DeliveryEntry]
    next_cursor: str | None


@contract.command("billing.list_deliveries", queue=Queue.webhooks)
def list_deliveries(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    endpoint_id: UUID | None = None,
    state: DeliveryState | None = None,
    topic: str | None = None,
    event_id: EventId | None = None,
    since: fields.Instant | None = None,
    until: fields.Instant | None = None,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 50,
) -> DeliveryList:
    """List deliveries, the newest first.

    Runs when somebody sends it and changes nothing, however often and wherever it dies.

    Args:
        tenant_id: to this tenant's endpoints; without it to everybody's, the operator's among them.
        endpoint_id: to this endpoint.
        state: pending, sending, held, delivered, dead or cancelled.
        topic: of this type of event, exactly.
        event_id: of this event.
        since: of events that happened then or later.
        until: of events that happened before.
        cursor: `next_cursor` of the page before, with the same arguments.
        limit: how many at most, 1 to 200.
    """
    wanted = delivery_page.Filter(
        tenant_id=tenant_id,
        endpoint_id=endpoint_id,
        state=state,
        type=topic,
        message_id=None if event_id is None else ids.parse_event_id(event_id),
        since=since,
        until=until,
    )
    query = {"deliveries": [tenant_id, endpoint_id, state, topic, event_id, since, until]}
    before = paging.read(cursor, query, int)
    page = delivery_page.list_page(session, wanted, before=before, most=limit)
    return {
        "deliveries": [entry(found) for found in page],
        "next_cursor": (paging.write(query, page[-1].delivery_id) if len(page) == limit else None),
    }


@contract.command("billing.get_delivery", queue=Queue.webhooks)
def get_delivery(
    session: database.Session,
    *,
    delivery_id: DeliveryId,
    tenant_id: fields.TenantId | None = None,
) -> DeliveryDetails:
    """Return a delivery with its attempts, the newest 200, and its event.

    Runs when somebody sends it and changes nothing, however often and wherever it dies.

    Args:
        delivery_id: which.
        tenant_id: when given, only a delivery to this tenant's endpoints is found.
    """
    found, body = delivery_page.get(session, delivery_id, tenant_id=tenant_id)
    tried = delivery_page.list_attempts(session, found)
    last = tried[-1] if tried else None
    return {
        **entry(found),
        "last_outcome": None if last is None else last.outcome,
        "last_status": None if last is None else last.status,
        "attempts": [_attempt(one) for one in tried],
        "event": orjson.loads(body),
    }


def entry(found: delivery_page.Found) -> DeliveryEntry:
    """Return a delivery as it is answered."""
    return {
        "delivery_id": found.delivery_id,
        "endpoint_id": str(found.endpoint_id),
        "event_id": ids.event_id(found.message_id),
        "topic": found.type,
        "tenant_id": found.tenant_id,
        "happened_at": found.created_at.isoformat(),
        "state": found.state,
        "attempts_made": found.attempt_count,
        "due_at": found.due_at.isoformat(),
        "waits_until": _text(found.waits_until),
        "completed_at": _text(found.completed_at),
        "replayed_at": _text(found.replayed_at),
        "skip_reason": found.skip_reason,
        "correlation_id": found.correlation_id,
        "traceparent": found.traceparent,
        "last_outcome": found.last_outcome,
        "last_status": found.last_status,
    }


def _text(at: dt.datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _attempt(one: delivery_page.Tried) -> AttemptEntry:
    return {
        "attempted_at": one.attempted_at.isoformat(),
        "number": one.attempt_number,
        "outcome": one.outcome,
        "status": one.status,
        "latency_ms": one.latency_ms,
        "error": one.error,
        "answer": one.excerpt,
    }

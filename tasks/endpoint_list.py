"""Endpoints looked up: one, or a page of them; never their secrets."""

import datetime as dt
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.outbox import Endpoint
from models.rules.states import EndpointState
from models.store import endpoint, endpoint_health, endpoint_page, endpoint_secret
from tasks import contract, fields
from tasks.queues import Queue
from webhooks import topics
from webhooks.endpoint_condition import Condition

LONGEST_PAGE = 200
"""Endpoints in one answer of billing.list_endpoints."""


class EndpointEntry(TypedDict):
    """What is known of an endpoint. Of its headers only the names: values may be credentials."""

    endpoint_id: str
    tenant_id: str | None
    operator: bool
    url: str
    topics: list[str]
    description: str | None
    headers: list[str]
    metadata: dict[str, Any]
    state: str
    ordered: bool
    rate_per_minute: int | None
    hold_until: str | None
    circuit_open: bool
    consecutive_failures: int
    created_at: str
    updated_at: str


class KeyEntry(TypedDict):
    """A live signing key: not the key, but which there are. None of `expires_at` is for good."""

    secret_id: str
    signature: str
    created_at: str
    expires_at: str | None


class EndpointDetails(EndpointEntry):
    """An endpoint, with its keys and how it is doing."""

    keys: list[KeyEntry]
    probe_at: str | None
    failing_since: str | None


class ListAnswer(TypedDict):
    """A page of endpoints; `next_after` is what to ask the next page with, None on the last."""

    endpoints: list[EndpointEntry]
    next_after: str | None


@contract.command("billing.get_endpoint", queue=Queue.webhooks)
def get_endpoint(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    as_of: fields.Instant = contract.NOW,
) -> EndpointDetails:
    """Return one endpoint with its live keys, a deleted one too, without secrets.

    Runs when somebody sends it and changes nothing, however often and wherever it dies.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
        as_of: when its keys are to be live.
    """
    found = endpoint.get(session, endpoint_id, tenant_id=tenant_id)
    known = endpoint_health.find(session, [endpoint_id])[endpoint_id]
    keys = endpoint_secret.list_live(session, endpoint_id, now=as_of)
    condition = Condition.from_dict(known.condition)
    return {
        **_entry(found, known),
        "keys": [
            {
                "secret_id": str(one.id),
                "signature": one.kind,
                "created_at": one.created_at.isoformat(),
                "expires_at": _text(one.expires_at),
            }
            for one in keys
        ],
        "probe_at": _text(known.probe_at),
        "failing_since": _text(condition.trouble.began_at),
    }


@contract.command("billing.list_endpoints", queue=Queue.webhooks)
def list_endpoints(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    after: UUID | None = None,
    operator: bool | None = None,
    state: Literal["enabled", "disabled"] | None = None,
    topic: str | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = LONGEST_PAGE,
) -> ListAnswer:
    """Return endpoints that were not deleted, without secrets.

    Runs when somebody sends it and changes nothing, however often and wherever it dies.

    Args:
        tenant_id: whose; without it everybody's, the operator's among them.
        after: `next_after` of the page before.
        operator: true for the operator's alone, false for tenants' alone.
        state: "enabled" or "disabled"; without it both.
        topic: those that asked for this type, by its name, a prefix of it, or "*".
        limit: endpoints on one page, 1 to 200.
    """
    wanted = endpoint_page.Filter(
        tenant_id=tenant_id,
        operator=operator,
        state=None if state is None else EndpointState(state),
        topics=None if topic is None else topics.asking_for(topic),
    )
    found = endpoint_page.list_page(session, wanted, after=after, most=limit)
    known = endpoint_health.find(session, [one.id for one in found])
    return {
        "endpoints": [_entry(one, known[one.id]) for one in found],
        "next_after": str(found[-1].id) if len(found) == limit else None,
    }


def _entry(found: Endpoint, known: endpoint_health.Health) -> EndpointEntry:
    circuit = Condition.from_dict(known.condition).circuit
    return {
        "endpoint_id": str(found.id),
        "tenant_id": found.tenant_id,
        "operator": found.operator,
        "url": found.url,
        "topics": found.topics,
        "description": found.description,
        "headers": sorted(found.headers),
        "metadata": found.details,
        "state": found.state,
        "ordered": found.ordered,
        "rate_per_minute": found.rate_per_minute,
        "hold_until": _text(known.hold_until),
        "circuit_open": circuit.is_open,
        "consecutive_failures": circuit.consecutive_failures,
        "created_at": found.created_at.isoformat(),
        "updated_at": found.updated_at.isoformat(),
    }


def _text(at: dt.datetime | None) -> str | None:
    return None if at is None else at.isoformat()

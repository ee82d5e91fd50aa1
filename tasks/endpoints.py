"""Where webhooks go: create, list, disable, enable and delete endpoints."""

from typing import Annotated, Any, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.outbox import Endpoint
from models.rules import ids
from models.rules.refusal import Refusal
from models.rules.states import EndpointState
from models.store import endpoint, endpoint_health, tenant
from tasks import announce, config, contract, fields
from tasks.queues import Queue
from webhooks import events, guard, signing
from webhooks.health import Condition
from webhooks.keyring import Keyring

FASTEST = 60_000
"""Deliveries a minute: the highest rate limit."""

LONGEST_PAGE = 200
"""Endpoints in one answer of billing.list_endpoints."""


class UnclearOwner(Refusal):
    """An endpoint must belong to one tenant or to the operator."""

    code = "endpoint.owner"


class UrlRefused(Refusal):
    """A URL that no webhook is sent to."""

    code = "endpoint.url"


class NoMasterKey(Refusal):
    """The process has no master key to seal the endpoint's secret with."""

    code = "endpoint.no_master_key"


class CreateAnswer(TypedDict):
    """A new endpoint. `secret` is None in a repeated answer when it has been revoked since."""

    endpoint_id: str
    secret: str | None


class StoredAnswer(TypedDict):
    """What is kept of the answer beside the idempotency key: not the secret, but where it is."""

    endpoint_id: str
    secret_id: str


class EndpointAnswer(TypedDict):
    """The state of an endpoint after a command."""

    endpoint_id: str
    state: str


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


class ListAnswer(TypedDict):
    """A page of endpoints; `next_after` is what to ask the next page with, None on the last."""

    endpoints: list[EndpointEntry]
    next_after: str | None


def _show_secret(session: database.Session, answer: StoredAnswer) -> CreateAnswer:
    """Open the secret for the caller: beside the idempotency key only its id is stored."""
    sealed = endpoint.find_sealed(session, UUID(answer["secret_id"]))
    endpoint_id = answer["endpoint_id"]
    secret = None if sealed is None else _keyring().open(sealed, associated=endpoint_id)
    return {"endpoint_id": endpoint_id, "secret": secret}


@contract.command("billing.create_endpoint", queue=Queue.webhooks, reveal=_show_secret)
def create_endpoint(
    session: database.Session,
    *,
    url: fields.Url,
    topics: fields.Topics,
    tenant_id: fields.TenantId | None = None,
    operator: bool = False,
    description: fields.Name | None = None,
    headers: fields.Headers | None = None,
    ordered: bool = False,
    rate_per_minute: Annotated[int, Field(ge=1, le=FASTEST)] | None = None,
    metadata: fields.Metadata | None = None,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> StoredAnswer:
    """Create an endpoint and its signing secret.

    Runs when a producer or an operator sends it. Twice with one idempotency key is one endpoint and
    the same answer. If it dies half way nothing has been created, and the message comes back.

    The answer carries the secret in clear, for the receiver to verify with; it is shown nowhere
    else. In the database it is sealed. Celery keeps the answer where results are kept until
    somebody takes it, for an hour at most: take it and forget it (`result.forget()`).

    It hears of what happens from its creation on.

    Args:
        url: https, public address, at most 2,048 characters, unless the operator allows more.
        topics: exact types, "billing.*" (children only) or "*", at most 100.
        tenant_id: whose events it gets. The tenant must be known.
        operator: true for an endpoint that gets every tenant's events. Exactly one of the two.
        description: for people.
        headers: added to each request; at most 20 and 4 KiB, ASCII.
        ordered: oldest first, one at a time, and none past one that has not arrived, until that
            arrives or is skipped with billing.skip_delivery. Without it up to five are under way
            at once, and one that fails is tried again later.
        rate_per_minute: the most that is sent, 1 to 60,000; bursts of at most a second's worth.
        metadata: the producer's own data, at most 16 KiB.
    """
    if operator == (tenant_id is not None):
        raise UnclearOwner(
            "an endpoint belongs to one tenant or to the operator; give either tenant_id or "
            "operator=true",
            field="tenant_id",
        )
    if tenant_id is not None:
        tenant.get(session, tenant_id)
    endpoint_id, secret_id = ids.uuid7(as_of), ids.uuid7(as_of)
    draft = endpoint.Draft(
        id=endpoint_id,
        tenant_id=tenant_id,
        url=_checked(url),
        topics=topics,
        description=description,
        headers=headers or {},
        ordered=ordered,
        rate_per_minute=rate_per_minute,
        details=metadata or {},
        secret_id=secret_id,
        sealed=_keyring().seal(signing.new_secret(), associated=str(endpoint_id)),
    )
    endpoint.create(session, draft, now=as_of)
    return {"endpoint_id": str(endpoint_id), "secret_id": str(secret_id)}


@contract.command("billing.disable_endpoint", queue=Queue.webhooks)
def disable_endpoint(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    as_of: fields.Instant = contract.NOW,
) -> EndpointAnswer:
    """Send an endpoint nothing more until it is enabled; what is due to it is held, not lost.

    Runs when somebody sends it. Twice is harmless: it is disabled already. If it dies half way
    nothing has changed, and the message comes back.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
    """
    found = _locked(session, endpoint_id, tenant_id)
    disable(session, found, reason="requested", as_of=as_of)
    return _state(found)


@contract.command("billing.enable_endpoint", queue=Queue.webhooks)
def enable_endpoint(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    as_of: fields.Instant = contract.NOW,
) -> EndpointAnswer:
    """Send an endpoint its events again; what was held is due at once.

    Runs when somebody sends it. Twice is harmless: it is enabled already. If it dies half way
    nothing has changed, and the message comes back.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
    """
    found = _locked(session, endpoint_id, tenant_id)
    if endpoint.enable(session, found, now=as_of) and config.current().kick:
        database.after_commit(session, "kick sender", announce.kick_sender)
    return _state(found)


@contract.command("billing.delete_endpoint", queue=Queue.webhooks)
def delete_endpoint(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    as_of: fields.Instant = contract.NOW,
) -> EndpointAnswer:
    """Delete an endpoint for good: its secrets are destroyed, what was due to it is cancelled.

    An attempt that is under way ends by itself and is not repeated. Runs when somebody sends it.
    Twice is harmless: it is deleted already. If it dies half way nothing has changed, and the
    message comes back.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
    """
    found = endpoint.lock(session, endpoint_id, tenant_id=tenant_id)
    endpoint.delete(session, found, now=as_of)
    return _state(found)


@contract.command("billing.list_endpoints", queue=Queue.webhooks)
def list_endpoints(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    after: UUID | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = LONGEST_PAGE,
) -> ListAnswer:
    """Return endpoints that were not deleted, without secrets.

    Runs when somebody sends it and changes nothing, however often and wherever it dies.

    Args:
        tenant_id: whose; without it everybody's, the operator's among them.
        after: `next_after` of the page before.
        limit: endpoints on one page, 1 to 200.
    """
    found = endpoint.list_page(session, tenant_id=tenant_id, after=after, most=limit)
    known = endpoint_health.find(session, [one.id for one in found])
    return {
        "endpoints": [_entry(one, known[one.id]) for one in found],
        "next_after": str(found[-1].id) if len(found) == limit else None,
    }


def disable(
    session: database.Session,
    locked: Endpoint,
    *,
    reason: str,
    as_of: fields.Instant,
) -> bool:
    """Disable an endpoint locked by `endpoint.lock` and say so; tell whether it was enabled."""
    if not endpoint.disable(session, locked, now=as_of):
        return False
    announce.announce(
        session,
        events.EndpointDisabled(endpoint_id=locked.id, reason=reason),
        tenant_id=locked.tenant_id or announce.OPERATOR,
        sequence=locked.version,
        now=as_of,
    )
    return True


def _locked(session: database.Session, endpoint_id: UUID, tenant_id: str | None) -> Endpoint:
    found = endpoint.lock(session, endpoint_id, tenant_id=tenant_id)
    if found.state == EndpointState.deleted:
        raise endpoint.UnknownEndpoint(
            f"endpoint_id {str(endpoint_id)!r} was deleted; create a new endpoint",
            field="endpoint_id",
        )
    return found


def _checked(url: str) -> str:
    try:
        return guard.check_url(url, policy=config.current().address_policy).url
    except guard.UrlRefused as error:
        raise UrlRefused(str(error), field="url") from None


def _keyring() -> Keyring:
    keyring = config.current().keyring
    if keyring is None:
        raise NoMasterKey(
            "this worker has no master key, so no secret can be kept; set BILLING_MASTER_KEYS"
        )
    return keyring


def _state(found: Endpoint) -> EndpointAnswer:
    return {"endpoint_id": str(found.id), "state": found.state}


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
        "hold_until": known.hold_until.isoformat() if known.hold_until else None,
        "circuit_open": circuit.is_open,
        "consecutive_failures": circuit.consecutive_failures,
        "created_at": found.created_at.isoformat(),
    }

"""Where webhooks go: create, disable, enable and delete endpoints."""

from typing import Annotated, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.outbox import Endpoint, SecretKind
from models.rules import ids
from models.rules.refusal import Refusal
from models.store import endpoint, tenant
from tasks import announce, config, contract, fields, signing_keys
from tasks.queues import Queue
from tasks.signing_keys import KeyAnswer
from webhooks import events, guard

FASTEST = 60_000
"""Deliveries a minute: the highest rate limit."""

Rate = Annotated[int, Field(ge=1, le=FASTEST)]


class UnclearOwner(Refusal):
    """An endpoint must belong to one tenant or to the operator."""

    code = "endpoint.owner"


class UrlRefused(Refusal):
    """A URL that no webhook is sent to."""

    code = "endpoint.url"


class EndpointAnswer(TypedDict):
    """The state of an endpoint after a command."""

    endpoint_id: str
    state: str


@contract.command("billing.create_endpoint", queue=Queue.webhooks, reveal=signing_keys.reveal)
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
    rate_per_minute: Rate | None = None,
    metadata: fields.Metadata | None = None,
    signature: SecretKind = SecretKind.hmac,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> KeyAnswer:
    """Create an endpoint and its signing secret.

    Runs when a producer or an operator sends it. Twice with one idempotency key is one endpoint and
    the same answer. If it dies half way nothing has been created, and the message comes back.

    The answer carries what the receiver verifies with: the secret in clear, or the public half of a
    key pair. The same call again shows it again, until it is revoked (`secret_state` tells);
    nothing else ever does, nor does a replay by billing.replay_rejected. In the database it is
    sealed. Celery keeps the answer where results are kept until somebody takes it, for an hour at
    most: take it and forget it (`result.forget()`).

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
        signature: "hmac" (`v1`, a shared secret) or "ed25519" (`v1a`, a key pair).
    """
    if operator == (tenant_id is not None):
        raise UnclearOwner(
            "an endpoint belongs to one tenant or to the operator; give either tenant_id or "
            "operator=true",
            field="tenant_id",
        )
    if tenant_id is not None:
        tenant.get(session, tenant_id)
    endpoint_id = ids.uuid7(as_of)
    key = signing_keys.new(endpoint_id, signature, now=as_of)
    draft = endpoint.Draft(
        id=endpoint_id,
        tenant_id=tenant_id,
        url=checked_url(url),
        topics=topics,
        description=description,
        headers=headers or {},
        ordered=ordered,
        rate_per_minute=rate_per_minute,
        details=metadata or {},
        key=key,
    )
    endpoint.create(session, draft, now=as_of)
    return signing_keys.stored_answer(key)


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
    found = endpoint.lock_there(session, endpoint_id, tenant_id=tenant_id)
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
    found = endpoint.lock_there(session, endpoint_id, tenant_id=tenant_id)
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


def checked_url(url: str) -> str:
    """Return a URL in its normal spelling.

    Raises:
        UrlRefused: nothing is sent there.
    """
    try:
        return guard.check_url(url, policy=config.current().address_policy).url
    except guard.UrlRefused as error:
        raise UrlRefused(str(error), field="url") from None


def _state(found: Endpoint) -> EndpointAnswer:
    return {"endpoint_id": str(found.id), "state": found.state}

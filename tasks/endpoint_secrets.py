"""Signing keys rotated, with the old ones living on for a while, or revoked at once."""

import datetime as dt
from typing import Annotated, TypedDict
from uuid import UUID

import structlog
from pydantic import Field

from models import database
from models.outbox import SecretKind
from models.store import endpoint, endpoint_secret
from tasks import contract, fields, signing_keys
from tasks.queues import Queue
from tasks.signing_keys import KeyAnswer
from webhooks.signing import MAX_LIVE_SECRETS

DAY = 86_400

KeepSeconds = Annotated[int, Field(ge=0, le=7 * DAY)]
"""How long old keys sign beside a new one: up to 7 days."""

log = structlog.get_logger(__name__)


class RevokeAnswer(TypedDict):
    """A key that signs no more, and those that do, the newest first."""

    endpoint_id: str
    secret_id: str
    live: list[str]


@contract.command(
    "billing.rotate_endpoint_secret",
    queue=Queue.webhooks,
    reveal=signing_keys.reveal,
    scope="endpoint_id",
)
def rotate_endpoint_secret(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    signature: SecretKind = SecretKind.hmac,
    keep_old_seconds: KeepSeconds = DAY,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> KeyAnswer:
    """Give an endpoint a new signing key; the old ones sign beside it for a while.

    Meanwhile each request carries a signature of every live key, so that the receiver can change to
    the new one whenever it likes. Runs when somebody sends it. Twice with one idempotency key is
    one rotation and the same answer. If it dies half way nothing has changed, and the message comes
    back. The answer is as private as that of billing.create_endpoint.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
        signature: "hmac" or "ed25519", of the new key.
        keep_old_seconds: how long the old keys live on, 0 to 7 days (604,800); a day if absent. At
            most five keys live at one time (`endpoint.secrets_too_many`).
    """
    endpoint.lock_there(session, endpoint_id, tenant_id=tenant_id)
    key = signing_keys.new(endpoint_id, signature, now=as_of)
    old_until = as_of + dt.timedelta(seconds=keep_old_seconds)
    endpoint_secret.rotate(session, key, old_until=old_until, most=MAX_LIVE_SECRETS, now=as_of)
    log.info(
        "endpoint.secret_rotated",
        endpoint_id=str(endpoint_id),
        secret_id=str(key.id),
        old_until=old_until.isoformat(),
    )
    return signing_keys.stored_answer(key)


@contract.command("billing.revoke_endpoint_secret", queue=Queue.webhooks, scope="endpoint_id")
def revoke_endpoint_secret(
    session: database.Session,
    *,
    endpoint_id: UUID,
    secret_id: UUID,
    tenant_id: fields.TenantId | None = None,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract reads it)
    as_of: fields.Instant = contract.NOW,
) -> RevokeAnswer:
    """Destroy a signing key at once: nothing that a sender takes from now on is signed with it.

    What senders had taken before goes out within half a minute as it was. Runs when somebody sends
    it. Twice with one idempotency key is one revocation and the same answer. If it dies half way
    nothing has changed, and the message comes back.

    Args:
        endpoint_id: which.
        secret_id: the key, as billing.get_endpoint names it. The only one that does not expire is
            refused (`endpoint.secret_last`): rotate first.
        tenant_id: when given, only an endpoint of this tenant is found.
    """
    endpoint.lock_there(session, endpoint_id, tenant_id=tenant_id)
    endpoint_secret.revoke(session, endpoint_id, secret_id, now=as_of)
    log.info("endpoint.secret_revoked", endpoint_id=str(endpoint_id), secret_id=str(secret_id))
    live = endpoint_secret.list_live(session, endpoint_id, now=as_of)
    return {
        "endpoint_id": str(endpoint_id),
        "secret_id": str(secret_id),
        "live": [str(one.id) for one in live],
    }

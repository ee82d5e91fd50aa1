"""Keys that sign for endpoints: made, sealed, and shown to whoever asked for them."""

import datetime as dt
from typing import Literal, TypedDict, assert_never
from uuid import UUID

from models import database
from models.outbox import SecretKind
from models.rules import ids
from models.rules.refusal import Refusal
from models.store import endpoint_secret
from tasks import config
from webhooks import signing_keys
from webhooks.keyring import Keyring


class NoMasterKey(Refusal):
    """The process has no master key to seal the endpoint's secret with."""

    code = "endpoint.no_master_key"


class KeyAnswer(TypedDict):
    """A new key of an endpoint: its `secret`, or the `public_key` of a pair.

    `secret_state` says whether it is there: "shown"; "revoked", when it has been destroyed since;
    or "withheld" from an answer that is not its maker's alone: send the same command again under
    the same idempotency_key, or rotate.
    """

    endpoint_id: str
    secret_id: str
    secret: str | None
    public_key: str | None
    secret_state: Literal["shown", "revoked", "withheld"]


def new(endpoint_id: UUID, kind: SecretKind, *, now: dt.datetime) -> endpoint_secret.Sealed:
    """Return a fresh key, sealed for its endpoint.

    Raises:
        NoMasterKey: there is nothing to seal it with.
    """
    match kind:
        case SecretKind.hmac:
            secret = signing_keys.new_secret()
        case SecretKind.ed25519:
            secret, _ = signing_keys.new_keypair()
        case never:
            assert_never(never)
    sealed = keyring().seal(secret, associated=str(endpoint_id))
    return endpoint_secret.Sealed(ids.uuid7(now), endpoint_id, kind, sealed)


def stored_answer(key: endpoint_secret.Sealed) -> KeyAnswer:
    """Return what may be kept of an answer: not the secret, but where it is."""
    return {
        "endpoint_id": str(key.endpoint_id),
        "secret_id": str(key.id),
        "secret": None,
        "public_key": None,
        "secret_state": "withheld",
    }


def reveal(session: database.Session, answer: KeyAnswer) -> KeyAnswer:
    """Complete a kept answer for whoever sent the command."""
    found = endpoint_secret.find_sealed(session, UUID(answer["secret_id"]))
    if found is None:
        return {**answer, "secret_state": "revoked"}
    opened = keyring().open(found.sealed, associated=answer["endpoint_id"])
    if found.kind == SecretKind.ed25519:
        return {**answer, "public_key": signing_keys.public_key(opened), "secret_state": "shown"}
    return {**answer, "secret": opened, "secret_state": "shown"}


def keyring() -> Keyring:
    """Return the master keys.

    Raises:
        NoMasterKey: there are none.
    """
    found = config.current().keyring
    if found is None:
        raise NoMasterKey(
            "this worker has no master key, so no secret can be kept; set BILLING_MASTER_KEYS"
        )
    return found

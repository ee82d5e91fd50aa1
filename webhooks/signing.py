"""Signatures of Standard Webhooks 1.0.0: what proves to a receiver that a message is ours.

The signed content is ``id.timestamp.body``, over the very bytes that are sent. ``v1`` is
HMAC-SHA256 with a shared secret (``whsec_``), ``v1a`` is ed25519 with a key pair (``whsk_`` is
ours, ``whpk_`` is given to the receiver). https://github.com/standard-webhooks/standard-webhooks
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets as randomness
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

SHARED_PREFIX: Final = "whsec_"
PRIVATE_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"

SHARED_BYTES: Final = 32
"""Length of the secrets we make; those we accept are 24 to 64 bytes long."""
SHARED_BYTES_MIN: Final = 24
SHARED_BYTES_MAX: Final = 64
SEED_BYTES: Final = 32

MAX_LIVE_SECRETS: Final = 5
"""Keys of one endpoint that may sign at the same time while it is being rotated."""
MAX_SIGNATURES_READ: Final = 32
"""Signatures `verify` looks at: a header from the network is not a licence to burn CPU."""
TOLERANCE_SECONDS: Final = 300

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,256}")  # visible ASCII without the full stop
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class InvalidSecret(ValueError):
    """A signing key that can not be used. The message never contains the key."""


class InvalidMessageId(ValueError):
    """A message id that would make ``id.timestamp.body`` ambiguous."""


class NothingToSignWith(ValueError):
    """No secret was given: an unsigned message is never sent."""


class SignatureRefused(ValueError):
    """A received message that is not proven to come from the holder of the key."""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A parsed ``whsec_`` secret: signs and verifies ``v1``."""

    key: bytes = field(repr=False)

    def sign(self, content: bytes) -> str:
        return f"v1,{_encode(hmac.digest(self.key, content, hashlib.sha256))}"

    def matches(self, version: str, signature: bytes, content: bytes) -> bool:
        expected = hmac.digest(self.key, content, hashlib.sha256)
        return hmac.compare_digest(expected, signature) and version == "v1"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A parsed ``whsk_`` key: signs ``v1a``."""

    key: Ed25519PrivateKey = field(repr=False)

    def sign(self, content: bytes) -> str:
        return f"v1a,{_encode(self.key.sign(content))}"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A parsed ``whpk_`` key: verifies ``v1a``."""

    key: Ed25519PublicKey

    def matches(self, version: str, signature: bytes, content: bytes) -> bool:
        if version != "v1a":
            return False
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def new_secret() -> str:
    """A fresh shared secret: ``whsec_`` and base64 of 32 random bytes. Show it once."""
    return SHARED_PREFIX + _encode(randomness.token_bytes(SHARED_BYTES))


def new_keypair() -> tuple[str, str]:
    """A fresh ed25519 pair ``(whsk_…, whpk_…)``: ours to keep, the receiver's to verify with."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    return (
        PRIVATE_PREFIX + _encode(private.private_bytes_raw() + public),
        PUBLIC_PREFIX + _encode(public),
    )


def parse(secret: str) -> SharedKey | PrivateKey | PublicKey:
    """Read a ``whsec_``, ``whsk_`` or ``whpk_`` text.

    Raises `InvalidSecret` when the prefix is another, when the rest is not base64, when a shared
    secret is not 24 to 64 bytes long, or when the two halves of a private key do not belong
    together.
    """
    if secret.startswith(SHARED_PREFIX):
        return _shared(_decode(secret, SHARED_PREFIX))
    if secret.startswith(PRIVATE_PREFIX):
        return _private(_decode(secret, PRIVATE_PREFIX))
    if secret.startswith(PUBLIC_PREFIX):
        return _public(_decode(secret, PUBLIC_PREFIX))
    raise InvalidSecret(
        f"a signing key starts with {SHARED_PREFIX}, {PRIVATE_PREFIX} or {PUBLIC_PREFIX}; "
        "this one starts with something else"
    )


def check_secret(secret: str) -> None:
    """Raise `InvalidSecret` unless `secret` can sign: a ``whsec_`` secret or a ``whsk_`` key."""
    _signing_key(secret)


def public_key(private: str) -> str:
    """The ``whpk_`` text that belongs to a ``whsk_`` key."""
    match parse(private):
        case PrivateKey(key):
            return PUBLIC_PREFIX + _encode(key.public_key().public_bytes_raw())
        case SharedKey() | PublicKey():
            raise InvalidSecret(f"only a {PRIVATE_PREFIX} key has a public half")
        case never:
            assert_never(never)


def sign(*, secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one signature per secret, ``v1`` before ``v1a``.

    `timestamp` is the attempt's time in whole unix seconds. The signatures are joined by exactly
    one space: receivers split on it. Raises `NothingToSignWith`, `InvalidSecret` or
    `InvalidMessageId`.
    """
    if not secrets:
        raise NothingToSignWith("no signing secret given: a message is never sent unsigned")
    content = _content(message_id, str(timestamp), body)
    keys = [_signing_key(secret) for secret in secrets]
    keys.sort(key=lambda key: isinstance(key, PrivateKey))
    return " ".join(key.sign(content) for key in keys)


def verify(
    *,
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    now: int,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> None:
    """Return when a received message carries a good signature; raise `SignatureRefused` if not.

    `secrets` are ``whsec_`` secrets and ``whpk_`` keys, `headers` the request's (names in any
    case), `body` the bytes as received, `now` the receiver's clock in unix seconds. Every
    signature is compared with every key, in constant time, before the answer is given.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get(ID_HEADER, ""), given.get(TIMESTAMP_HEADER, "")
    _check_age(timestamp, now=now, tolerance_seconds=tolerance_seconds)
    try:
        content = _content(message_id, timestamp, body)
    except InvalidMessageId as error:
        raise SignatureRefused(str(error)) from error
    signatures = list(_signatures(given.get(SIGNATURE_HEADER, "")))
    keys = [_verifying_key(secret) for secret in secrets]
    verdicts = [key.matches(*signature, content) for key in keys for signature in signatures]
    if True not in verdicts:
        raise SignatureRefused(f"none of {len(signatures)} signatures matches a known key")


def _content(message_id: str, timestamp: str, body: bytes) -> bytes:
    if not _MESSAGE_ID.fullmatch(message_id):
        raise InvalidMessageId(
            f"message id {message_id[:64]!r} is not 1 to 256 visible ASCII characters without a "
            "full stop"
        )
    return f"{message_id}.{timestamp}.".encode("ascii") + body


def _signing_key(secret: str) -> SharedKey | PrivateKey:
    match parse(secret):
        case PublicKey():
            raise InvalidSecret(f"a {PUBLIC_PREFIX} key verifies; signing needs {PRIVATE_PREFIX}")
        case SharedKey() | PrivateKey() as key:
            return key
        case never:
            assert_never(never)


def _verifying_key(secret: str) -> SharedKey | PublicKey:
    match parse(secret):
        case PrivateKey(key):
            return PublicKey(key.public_key())
        case SharedKey() | PublicKey() as key:
            return key
        case never:
            assert_never(never)


def _shared(key: bytes) -> SharedKey:
    if not SHARED_BYTES_MIN <= len(key) <= SHARED_BYTES_MAX:
        raise InvalidSecret(
            f"a {SHARED_PREFIX} secret holds {SHARED_BYTES_MIN} to {SHARED_BYTES_MAX} bytes; "
            f"this one holds {len(key)}"
        )
    return SharedKey(key)


def _private(key: bytes) -> PrivateKey:
    if len(key) != 2 * SEED_BYTES:
        raise InvalidSecret(
            f"a {PRIVATE_PREFIX} key holds a seed and its public key, {2 * SEED_BYTES} bytes; "
            f"this one holds {len(key)}"
        )
    private = Ed25519PrivateKey.from_private_bytes(key[:SEED_BYTES])
    if private.public_key().public_bytes_raw() != key[SEED_BYTES:]:
        raise InvalidSecret(f"the two halves of this {PRIVATE_PREFIX} key do not belong together")
    return PrivateKey(private)


def _public(key: bytes) -> PublicKey:
    if len(key) != SEED_BYTES:
        raise InvalidSecret(
            f"a {PUBLIC_PREFIX} key holds {SEED_BYTES} bytes; this one holds {len(key)}"
        )
    return PublicKey(Ed25519PublicKey.from_public_bytes(key))


def _check_age(timestamp: str, *, now: int, tolerance_seconds: int) -> None:
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRefused(f"{TIMESTAMP_HEADER} is missing or not whole unix seconds")
    age = now - int(timestamp)
    if abs(age) > tolerance_seconds:
        raise SignatureRefused(
            f"{TIMESTAMP_HEADER} is {age} s old; at most {tolerance_seconds} s either way is taken"
        )


def _signatures(header: str) -> Iterable[tuple[str, bytes]]:
    for part in header.split(" ")[:MAX_SIGNATURES_READ]:
        version, _, text = part.partition(",")
        try:
            yield version, base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue


def _decode(secret: str, prefix: str) -> bytes:
    text = secret.removeprefix(prefix)
    try:
        # Padding is optional in the wild: the reference libraries add it, so do we.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        # `from None`: the cause would carry the text.
        raise InvalidSecret(f"what follows {prefix} is not base64") from None


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")

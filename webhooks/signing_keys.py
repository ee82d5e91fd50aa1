"""Keys that sign webhooks and verify them: made, parsed, checked."""

import base64
import binascii
import hashlib
import hmac
import secrets as randomness
from dataclasses import dataclass, field
from typing import Final, assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SHARED_PREFIX: Final = "whsec_"
PRIVATE_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"

SHARED_BYTES: Final = 32
"""Length of the secrets we make; those we accept are 24 to 64 bytes long."""
SHARED_BYTES_MIN: Final = 24
SHARED_BYTES_MAX: Final = 64
SEED_BYTES: Final = 32


class InvalidSecret(ValueError):
    """A signing key that can not be used. The message never contains the key."""


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


def public_key(private: str) -> str:
    """The ``whpk_`` text that belongs to a ``whsk_`` key."""
    match parse(private):
        case PrivateKey(key):
            return PUBLIC_PREFIX + _encode(key.public_key().public_bytes_raw())
        case SharedKey() | PublicKey():
            raise InvalidSecret(f"only a {PRIVATE_PREFIX} key has a public half")
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

"""Signatures of Standard Webhooks 1.0.0: what proves to a receiver that a message is ours.

The signed content is ``id.timestamp.body``, over the very bytes that are sent. ``v1`` is
HMAC-SHA256 with a shared secret (``whsec_``), ``v1a`` is ed25519 with a key pair (``whsk_`` is
ours, ``whpk_`` is given to the receiver). https://github.com/standard-webhooks/standard-webhooks
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, assert_never

from webhooks import signing_keys
from webhooks.signing_keys import InvalidSecret, PrivateKey, PublicKey, SharedKey

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


class InvalidMessageId(ValueError):
    """A message id that would make ``id.timestamp.body`` ambiguous."""


class NothingToSignWith(ValueError):
    """No secret was given: an unsigned message is never sent."""


class SignatureRefused(ValueError):
    """A received message that is not proven to come from the holder of the key."""


def check_secret(secret: str) -> None:
    """Raise `InvalidSecret` unless `secret` can sign: a ``whsec_`` secret or a ``whsk_`` key."""
    _signing_key(secret)


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
    match signing_keys.parse(secret):
        case PublicKey():
            raise InvalidSecret(
                f"a {signing_keys.PUBLIC_PREFIX} key verifies; signing needs "
                f"{signing_keys.PRIVATE_PREFIX}"
            )
        case SharedKey() | PrivateKey() as key:
            return key
        case never:
            assert_never(never)


def _verifying_key(secret: str) -> SharedKey | PublicKey:
    match signing_keys.parse(secret):
        case PrivateKey(key):
            return PublicKey(key.public_key())
        case SharedKey() | PublicKey() as key:
            return key
        case never:
            assert_never(never)


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

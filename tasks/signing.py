"""Signatures of task messages: whoever can write to the broker can not make a worker act.

A producer that has one of the keys signs the message's id, its task and its body, byte for byte, in
a header. What else travels with a message can only delay it or have it dropped, and whoever writes
to the broker can do that anyway; sending a signed message again is harmless, since every task is.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from webhooks.keyring import InvalidMasterKeys, Keyring

HEADER: Final = "billing-signature"
VERSION: Final = "v1"


class InvalidMessageKeys(ValueError):
    """The keys of the environment can not be read. The message never contains one."""


class Untrusted(ValueError):
    """A message that a worker must not act upon. What it says is not in the text."""

    code: ClassVar[str]


class Unsigned(Untrusted):
    """A message without a signature, where one is demanded."""

    code: ClassVar[str] = "message.unsigned"


class BadlySigned(Untrusted):
    """A message whose signature no key of ours made, or not for this message."""

    code: ClassVar[str] = "message.badly_signed"


CODES: Final = frozenset({Unsigned.code, BadlySigned.code})
"""Under which such messages are kept."""


@dataclass(frozen=True, slots=True)
class MessageKeys:
    """Keys by id: the current one signs, all of them verify. Its repr shows only ids."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "MessageKeys":
        """Read ``k2:base64,k1:base64``: 32 bytes each, the first signs.

        Raises `InvalidMessageKeys`, naming the entry by its place and id.
        """
        try:
            found = Keyring.parse(text)
        except InvalidMasterKeys as error:
            raise InvalidMessageKeys(str(error).replace("master key", "message key")) from None
        return cls(found.current, found.keys)

    def sign(self, task_id: str, task: str, body: bytes) -> str:
        """Return the header's value: version, key id and HMAC-SHA-256, parted by spaces."""
        mac = _mac(self.keys[self.current], task_id, task, body)
        return f"{VERSION} {self.current} {base64.b64encode(mac).decode()}"

    def check(self, headers: Mapping[str, Any], body: bytes, *, demanded: bool = True) -> None:
        """Return if the message may be acted upon.

        Args:
            headers: of the message: `id`, `task` and the signature.
            body: the very bytes that were sent.
            demanded: whether one without any signature is refused.

        Raises:
            Unsigned, BadlySigned: it may not.
        """
        given = headers.get(HEADER)
        if given is None and not demanded:
            return
        if not isinstance(given, str):
            raise Unsigned(f"it has no header {HEADER}; give its producer a key")
        version, _, rest = given.partition(" ")
        key_id, _, mac = rest.partition(" ")
        if version != VERSION:
            raise BadlySigned(f"its signature is not of version {VERSION}")
        if key_id not in self.keys:
            raise BadlySigned("it was signed with a key that is not among BILLING_MESSAGE_KEYS")
        wanted = _mac(self.keys[key_id], headers.get("id"), headers.get("task"), body)
        if not hmac.compare_digest(wanted, _decoded(mac)):
            raise BadlySigned(f"its signature with key {key_id!r} is not that of this message")


def _mac(key: bytes, task_id: Any, task: Any, body: bytes) -> bytes:
    # Lines, and lengths of what may have line ends: no two messages are signed as the same bytes.
    head = "".join(f"{len(part.encode())}\n{part}\n" for part in map(str, (task_id, task)))
    return hmac.digest(key, f"{VERSION}\n{head}".encode() + body, hashlib.sha256)


def _decoded(mac: str) -> bytes:
    try:
        return base64.b64decode(mac, validate=True)
    except (binascii.Error, ValueError):
        return b""

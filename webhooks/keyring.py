"""Signing secrets at rest: AES-256-GCM under a master key that lives outside the database.

A sealed secret says which master key opens it, so that keys can be rotated one row at a time, and
is bound to what it belongs to (``associated``, the endpoint's id): a row copied onto another
endpoint does not open.
"""

import base64
import binascii
import re
import secrets as randomness
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MASTER_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""Random 96-bit nonces: safe for 2**32 seals under one key (NIST SP 800-38D, 8.3)."""
TAG_BYTES: Final = 16
FORMAT: Final = 1

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class InvalidMasterKeys(ValueError):
    """The master keys of the environment can not be read. The message never contains a key."""


class UnknownMasterKey(LookupError):
    """A secret was sealed with a master key that this process was not given."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(
            f"sealed with master key {key_id!r}, which is not among the master keys given: "
            "add it behind the current one"
        )


class TamperedSecret(ValueError):
    """A sealed secret was altered, cut, or belongs to something else."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The master keys by id; the current one seals, all of them open. Its repr shows only ids."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        for key_id, key in self.keys.items():
            _check_key(key_id, key)
        if self.current not in self.keys:
            raise InvalidMasterKeys(f"current master key {self.current!r} is not among the keys")

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Read ``k2:base64,k1:base64``: 32 bytes each, the first is current.

        Raises `InvalidMasterKeys`, naming the entry by its place and id.
        """
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        if not entries:
            raise InvalidMasterKeys("no master key given; write id:base64 of 32 bytes")
        keys: dict[str, bytes] = {}
        for place, entry in enumerate(entries, start=1):
            key_id, key = _parse_entry(place, entry)
            if key_id in keys:
                raise InvalidMasterKeys(f"master key {key_id!r} is given twice")
            keys[key_id] = key
        return cls(current=next(iter(keys)), keys=keys)

    def seal(self, plaintext: str, *, associated: str) -> bytes:
        """Encrypt a secret under the current key, bound to `associated` (the endpoint's id)."""
        nonce = randomness.token_bytes(NONCE_BYTES)
        cipher = AESGCM(self.keys[self.current])
        sealed = cipher.encrypt(nonce, plaintext.encode(), _associated(self.current, associated))
        key_id = self.current.encode("ascii")
        return bytes((FORMAT, len(key_id))) + key_id + nonce + sealed

    def open(self, sealed: bytes, *, associated: str) -> str:
        """The secret again. Raises `UnknownMasterKey` or `TamperedSecret`."""
        key_id, nonce, ciphertext = _split(sealed)
        if key_id not in self.keys:
            raise UnknownMasterKey(key_id)
        try:
            plain = AESGCM(self.keys[key_id]).decrypt(
                nonce, ciphertext, _associated(key_id, associated)
            )
        except InvalidTag:
            raise TamperedSecret(
                f"a secret sealed with master key {key_id!r} does not open for {associated!r}: it "
                "was altered, belongs to something else, or the key's bytes are other than then"
            ) from None
        return plain.decode()

    def is_current(self, sealed: bytes) -> bool:
        """Whether `sealed` was made with the current key; if not, it is due for `reseal`."""
        return key_id_of(sealed) == self.current

    def reseal(self, sealed: bytes, *, associated: str) -> bytes:
        """The same secret under the current key: one step of rotating the master key."""
        return self.seal(self.open(sealed, associated=associated), associated=associated)


def new_master_key(key_id: str) -> str:
    """A fresh entry ``id:base64`` for the environment; put it first to make it current."""
    key = randomness.token_bytes(MASTER_KEY_BYTES)
    _check_key(key_id, key)
    return f"{key_id}:{base64.b64encode(key).decode('ascii')}"


def key_id_of(sealed: bytes) -> str:
    """Which master key opens `sealed`. Raises `TamperedSecret` for bytes that are not sealed."""
    return _split(sealed)[0]


def _split(sealed: bytes) -> tuple[str, bytes, bytes]:
    if len(sealed) < 2 or sealed[0] != FORMAT:
        raise TamperedSecret("not a sealed secret of a format known here")
    start = 2 + sealed[1]
    key_id = sealed[2:start].decode("ascii", errors="replace")
    nonce, ciphertext = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
    if not _KEY_ID.fullmatch(key_id) or len(ciphertext) < TAG_BYTES:
        raise TamperedSecret("a sealed secret was cut or altered")
    return key_id, nonce, ciphertext


def _associated(key_id: str, associated: str) -> bytes:
    # The id's alphabet has no NUL, so two different pairs never give the same bytes.
    return f"webhook secret\0{key_id}\0{associated}".encode()


def _parse_entry(place: int, entry: str) -> tuple[str, bytes]:
    key_id, colon, text = entry.partition(":")
    if not colon or not _KEY_ID.fullmatch(key_id):
        raise InvalidMasterKeys(f"master key number {place} is not written id:base64")
    try:
        return key_id, base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        # `from None`: the cause would carry the text.
        raise InvalidMasterKeys(f"master key {key_id!r} is not base64 of 32 bytes") from None


def _check_key(key_id: str, key: bytes) -> None:
    if not _KEY_ID.fullmatch(key_id):
        raise InvalidMasterKeys(
            f"master key id {key_id[:64]!r} is not 1 to 32 letters, digits, - or _"
        )
    if len(key) != MASTER_KEY_BYTES:
        raise InvalidMasterKeys(
            f"master key {key_id!r} has {len(key)} bytes; AES-256 takes {MASTER_KEY_BYTES}"
        )

"""Trials: which offers can be tried, and who has tried one, without saying who that is."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from models.rules.offer import Offer
from models.rules.refusal import Refusal

PEPPER_BYTES: Final = 32

_PEPPER_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class NotATrial(Refusal):
    """The offer is no trial: neither it nor all of its products say so in their metadata."""

    code: ClassVar[str] = "trial.not_a_trial"


class InvalidPeppers(ValueError):
    """The peppers of the environment can not be read. The message never contains one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody at a provider, such as an address at "email". A provider has no colon."""

    provider: str
    external_id: str

    @property
    def text(self) -> str:
        """What is hashed: stripped and lower-cased, so that spelling makes nobody another one."""
        return f"{self.provider.strip()}:{self.external_id.strip()}".lower()


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept of an identity: a keyed hash, and which pepper it was made with."""

    digest: bytes
    pepper_id: str


@dataclass(frozen=True, slots=True)
class Peppers:
    """Secrets that identities are hashed with, by id; the current one is first, all are known.

    Its repr shows only ids.
    """

    current: str
    secrets: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Peppers":
        """Read ``p2:base64,p1:base64``: at least 32 bytes each, the first is current.

        Raises `InvalidPeppers`, naming the entry by its place and id.
        """
        secrets: dict[str, bytes] = {}
        for place, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
            pepper_id, secret = _parse_entry(place, entry)
            if pepper_id in secrets:
                raise InvalidPeppers(f"pepper {pepper_id!r} is given twice")
            secrets[pepper_id] = secret
        if not secrets:
            raise InvalidPeppers("no pepper given; write id:base64 of 32 bytes")
        return cls(next(iter(secrets)), secrets)

    def mark(self, identity: Identity) -> Mark:
        """Return what to keep of an identity: HMAC-SHA-256 under the current pepper."""
        return Mark(self._digest(self.current, identity), self.current)

    def digests(self, identities: Iterable[Identity]) -> list[bytes]:
        """Return every hash under which one of the identities may be known, sorted."""
        return sorted({self._digest(one, who) for who in identities for one in self.secrets})

    def _digest(self, pepper_id: str, identity: Identity) -> bytes:
        return hmac.digest(self.secrets[pepper_id], identity.text.encode(), hashlib.sha256)


def is_trial(sold: Offer, of_products: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether an offer is a trial: by its own metadata, or by that of all its products."""
    return _says_so(sold.details) or all(_says_so(details) for details in of_products)


def _says_so(details: Mapping[str, Any]) -> bool:
    return details.get("is_trial") is True


def _parse_entry(place: int, entry: str) -> tuple[str, bytes]:
    pepper_id, colon, text = entry.partition(":")
    if not colon or not _PEPPER_ID.fullmatch(pepper_id):
        raise InvalidPeppers(f"pepper number {place} is not written id:base64")
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        # `from None`: the cause would carry the text.
        raise InvalidPeppers(f"pepper {pepper_id!r} is not base64 of 32 bytes") from None
    if len(secret) < PEPPER_BYTES:
        raise InvalidPeppers(
            f"pepper {pepper_id!r} has {len(secret)} bytes; it must have {PEPPER_BYTES} or more"
        )
    return pepper_id, secret

"""How names that others give a tenant are written, so that one name is one tenant."""

import re
from typing import Final

LONGEST_EXTERNAL_ID: Final = 255
LONGEST_NEW_ID: Final = 64

_PROVIDER: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class InvalidIdentity(ValueError):
    """A provider or an id of it can not be used."""


def provider(text: str) -> str:
    """Return a provider's name as it is stored: stripped and in lower case.

    Raises:
        InvalidIdentity: it is not 1 to 64 of a-z, 0-9 and ._- after that.
    """
    name = text.strip().lower()
    if _PROVIDER.fullmatch(name) is None:
        raise InvalidIdentity(
            "must be 1 to 64 of the letters a-z, digits and ._-, beginning with a letter or digit"
        )
    return name


def external_id(text: str) -> str:
    """Return a provider's id of a tenant as it is stored: stripped, and nothing else.

    Upper and lower case stay: to most providers "aB" and "Ab" are two users. Who knows better, as
    of e-mail addresses, sends them in one case.

    Raises:
        InvalidIdentity: it is empty or too long after that, or has characters that do not print.
    """
    name = text.strip()
    if not 1 <= len(name) <= LONGEST_EXTERNAL_ID:
        raise InvalidIdentity(f"must be 1 to {LONGEST_EXTERNAL_ID} characters")
    if not name.isprintable():
        raise InvalidIdentity("must have no control characters")
    return name

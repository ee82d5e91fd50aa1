"""How DATABASE_URL says that the connection is encrypted: libpq's own words, looked at before."""

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from tasks.tls import InvalidTls, require_certificates, require_file

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

ALWAYS: Final = frozenset({"require", "verify-ca", "verify-full"})
"""Modes that never go on in the clear."""

SYSTEM: Final = "system"
"""As `sslrootcert`: the CAs that the system trusts; libpq then demands verify-full by itself."""

FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


def check_database(url: str) -> None:
    """Refuse a URL of PostgreSQL that says something else of TLS than it would do.

    Raises:
        InvalidTls: naming the word of the URL; neither its host nor its password.
    """
    words = _words(url)
    mode = words.get("sslmode")
    if mode is not None and mode not in MODES:
        raise InvalidTls(f"has sslmode={mode}; libpq knows {', '.join(MODES)}")
    root = words.get("sslrootcert")
    if root == SYSTEM:
        if mode not in {None, "verify-full"}:
            raise InvalidTls(f"has sslrootcert={SYSTEM} and sslmode={mode}; write verify-full")
    elif root is not None and mode not in ALWAYS:
        raise InvalidTls(
            f"has sslrootcert and {'no sslmode' if mode is None else f'sslmode={mode}'}, which "
            "goes on in the clear if the server has no TLS; write sslmode=verify-full"
        )
    for name in FILES:
        if name in words and words[name] != SYSTEM:
            require_file(name, words[name])
    if root is not None and root != SYSTEM:
        require_certificates("sslrootcert", root)


def mode_of(url: str) -> str | None:
    """Return what is checked of the server: libpq's mode, with what a root certificate adds to it.

    None where the connection need not be encrypted.
    """
    words = _words(url)
    mode, root = words.get("sslmode"), words.get("sslrootcert")
    if root == SYSTEM:
        return "verify-full"
    if mode == "require" and root is not None:
        return "verify-ca"
    return mode if mode in ALWAYS else None


def _words(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))

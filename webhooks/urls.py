"""A webhook's URL as text: taken apart strictly, every part in its one plain spelling.

Programs disagree about odd spellings (backslashes, 0177.0.0.1, full-width digits), and a
disagreement between who checks and who connects is a way inside. So they are refused.
"""

import re
import socket
import unicodedata
import urllib.parse
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import idna

URL_CHARACTERS_MAX: Final = 2048
HOST_CHARACTERS_MAX: Final = 253
DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?")
_AUTHORITY = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::([0-9]{0,5}))?")
# Everything at or below a space, DEL, the backslash that browsers read as a slash, and halves of
# surrogate pairs, which no encoding can send.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH_SAFE: Final = "/?:@!$&'()*+,;=-._~%"


class UrlRefused(ValueError):
    """A URL that no webhook is sent to, for its shape alone."""


def split(url: str) -> tuple[str, str, int, str]:
    """Take a URL apart: scheme, host, port, and path with query.

    The host is ASCII, lower case, without brackets or last dot. Raises `UrlRefused` for what is
    not ``scheme://host[:port]/path`` of at most 2,048 characters: a user, a fragment, spaces,
    zones, an IPv4 address in any but its plain spelling.
    """
    if len(url) > URL_CHARACTERS_MAX:
        raise UrlRefused(f"the URL has {len(url)} characters; {URL_CHARACTERS_MAX} is the most")
    if _FORBIDDEN.search(url):
        raise UrlRefused("the URL has a space, a control character or a backslash in it")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise UrlRefused("the URL is not written https://host/path")
    scheme, authority, path, query, fragment = parts.groups(default="")
    if fragment:
        raise UrlRefused("the URL has a fragment (#…), which is never sent; leave it out")
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise UrlRefused(f"the URL's scheme is {scheme[:16]!r}; only https is taken")
    host, port = split_authority(authority)
    return scheme, host, DEFAULT_PORTS[scheme] if port is None else port, _path(path + query)


def split_authority(authority: str) -> tuple[str, int | None]:
    """Take ``host`` or ``host:port`` apart; an IPv6 address is in brackets. Raises `UrlRefused`."""
    if "@" in authority:
        raise UrlRefused("the URL has a user or password in it; use a custom header instead")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise UrlRefused(f"{authority[:64]!r} is not a host and an optional port")
    bracketed, name, digits = parts.groups()
    host = _name(name) if bracketed is None else _bracketed(bracketed)
    port = int(digits) if digits else None
    if port is not None and not 1 <= port <= 65535:
        raise UrlRefused(f"port {port} is not between 1 and 65535")
    return host, port


def _bracketed(text: str) -> str:
    if "%" in text:
        raise UrlRefused(f"[{text[:64]}] names a zone, which means something on one machine only")
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise UrlRefused(f"[{text[:64]}] is not an IPv6 address") from None


def _name(text: str) -> str:
    spelled = _ascii(text)
    host = spelled.removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _dotted_quad(spelled)
    if len(host) > HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused(f"{text[:64]!r} is not a host name")
    return host


def _ascii(text: str) -> str:
    if text.isascii():
        return text.lower()
    try:
        # As it is: what UTS 46 would fold (full-width digits, circled letters, other dots) is
        # another name to some programs, and to others none.
        plain = unicodedata.normalize("NFC", text.lower())
        return idna.encode(plain, strict=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise UrlRefused(f"{text[:64]!r} is not an international host name") from None


def _dotted_quad(host: str) -> str:
    """An IPv4 address in its one plain spelling; programs disagree about what the others mean."""
    try:
        return str(IPv4Address(host))
    except ValueError:
        pass
    try:
        # What browsers and C libraries make of 2130706433, 0x7f.1 or 0177.0.0.1.
        meaning = f"; write {IPv4Address(socket.inet_aton(host))}"
    except (OSError, ValueError):
        meaning = ""
    raise UrlRefused(f"{host[:64]!r} is a number but not a plain IPv4 address{meaning}")


def _path(text: str) -> str:
    path = urllib.parse.quote(text, safe=_PATH_SAFE)
    return path if path.startswith("/") else f"/{path}"

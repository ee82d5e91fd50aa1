"""The headers an endpoint's owner may add to each request."""

import re
from collections.abc import Mapping
from typing import Final

HEADERS_MAX: Final = 20
HEADERS_BYTES_MAX: Final = 4096
"""Names, values, and four bytes for the colon, space and line end of each."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~]*")
# Ours alone: what frames the message, what signs it, what says who sends it, and what would carry
# one tenant's session to another's server.
_REFUSED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-attempt",
        "x-event-id",
        "x-payload-version",
        "x-topic",
    }
)
TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate"})
"""Of an attempt: an endpoint that was made with headers of this name is not sent them."""

_REFUSED_PREFIXES: Final = ("content-", "proxy-", "webhook-")


class HeaderRefused(ValueError):
    """A custom header that is not sent. Its value is never shown: it may be a credential."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"custom header {name[:64]!r} is refused: {reason}")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise `HeaderRefused` unless these may be sent beside our own.

    At most 20, at most 4 KiB in all, ASCII, each name once, none that frames, signs or routes
    the request.
    """
    seen: set[str] = set()
    size = 0
    for name, value in headers.items():
        _check_header(name, value)
        if name.lower() in seen:
            raise HeaderRefused(name, "it is given twice, in different letter case")
        seen.add(name.lower())
        size += len(name) + len(value) + 4
        if len(seen) > HEADERS_MAX:
            raise HeaderRefused(name, f"at most {HEADERS_MAX} custom headers are sent")
        if size > HEADERS_BYTES_MAX:
            raise HeaderRefused(name, f"with it they are over {HEADERS_BYTES_MAX} bytes in all")


def _check_header(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise HeaderRefused(name, "a name is ASCII letters, digits and a few signs, no spaces")
    if name.lower() in _REFUSED or name.lower().startswith(_REFUSED_PREFIXES):
        raise HeaderRefused(name, "it is set by the sender alone")
    if not _VALUE.fullmatch(value):
        raise HeaderRefused(name, "its value has a line break, a control or a non-ASCII character")

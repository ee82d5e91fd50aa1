"""What went wrong with a call, in words for people: no secret, no content, no controls."""

import email.errors
import http.client
import re
import ssl
from typing import Final

from urllib3.exceptions import HTTPError

from webhooks import guard
from webhooks.final_response import NoFinalAnswer
from webhooks.retry import Outcome
from webhooks.wire import Call

EXCERPT_BYTES: Final = 16_384
"""The most that an excerpt takes as UTF-8."""
ERROR_CHARACTERS: Final = 300

# What reading a hostile answer has been seen to raise, in http.client, email, urllib3 and codecs.
# Not Exception: a task's time limit is one too, and must pass.
PEER_ERRORS: Final = (
    OSError,
    http.client.HTTPException,
    HTTPError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    email.errors.MessageError,
)

# Controls, C1 included, and the marks that reorder text on an operator's screen.
_UNPRINTABLE = re.compile(r"[^\t\n -~\xa0-\u200d\u2010-\u2027\u2030-\u2065\u206a-\U0010ffff]")


def diagnose(error: Exception, call: Call) -> tuple[Outcome, str]:
    """Return how a call ended that raised one of `PEER_ERRORS`, and why."""
    if isinstance(error, guard.UrlRefused):
        return Outcome.ADDRESS_REFUSED, str(error)
    if isinstance(error, guard.NameNotResolved):
        return Outcome.DNS_ERROR, str(error)
    if isinstance(error, NoFinalAnswer):
        return Outcome.TIMEOUT, str(error)
    if isinstance(error, TimeoutError) or call.is_late():
        seconds = call.clock() - call.started
        return Outcome.TIMEOUT, f"stopped after {seconds:.1f} s while {call.phase}"
    if isinstance(error, OSError):
        kind = Outcome.TLS_ERROR if isinstance(error, ssl.SSLError) else Outcome.CONNECTION_ERROR
        return kind, f"{call.phase}: {type(error).__name__}: {error}"
    return Outcome.PROTOCOL_ERROR, f"not an HTTP/1.1 answer: {type(error).__name__}: {error}"


def printable(body: bytes) -> str:
    """Return the beginning of a body as text that is safe to show, at most 16 KiB of UTF-8."""
    text = _UNPRINTABLE.sub("", body.decode("utf-8", errors="replace"))
    # A byte that was no UTF-8 became a sign of three.
    return text.encode()[:EXCERPT_BYTES].decode("utf-8", errors="ignore")


def one_line(text: str) -> str:
    """Return a reason as one line that is safe to show, at most 300 characters."""
    return " ".join(_UNPRINTABLE.sub("", text).split())[:ERROR_CHARACTERS]

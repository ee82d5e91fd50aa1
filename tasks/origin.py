"""Where work comes from: an id, and the place in a trace, that go with it from producer to webhook.

They travel as headers of the message, are kept beside each event the work tells of, and come out in
the log lines of all that is done for it. Who says none gets the id of the message.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import structlog

CORRELATION: Final = "billing_correlation_id"
"""Header of a message: 1 to 128 visible ASCII characters."""

TRACEPARENT: Final = "traceparent"
"""Header of a message: the caller's span, as the W3C's Trace Context writes it (version 00)."""

_CORRELATION_ID = re.compile(r"[!-~]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class InvalidCorrelationId(ValueError):
    """An id that no log line could carry."""

    def __init__(self) -> None:
        super().__init__("a correlation id is 1 to 128 visible ASCII characters, without spaces")


@dataclass(frozen=True, slots=True)
class Origin:
    """What work is done for."""

    correlation_id: str
    traceparent: str | None = None

    def __post_init__(self) -> None:
        if not _CORRELATION_ID.fullmatch(self.correlation_id):
            raise InvalidCorrelationId


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current() -> Origin | None:
    """Return what the work at hand is done for; None outside any."""
    return _origin.get()


def new() -> Origin:
    """Return the origin of work that somebody begins here."""
    return Origin(uuid.uuid4().hex)


def of_message(headers: Mapping[str, Any], *, message_id: str) -> Origin:
    """Return the origin that a message's headers tell; of what can not be used, nothing."""
    given, traceparent = headers.get(CORRELATION), headers.get(TRACEPARENT)
    # An id of a message is a stranger's word too.
    usable = filter(_is_correlation_id, (given, message_id))
    return Origin(
        str(next(usable, uuid.uuid4().hex)),
        traceparent if is_traceparent(traceparent) else None,
    )


def headers_for(message_id: str) -> dict[str, str]:
    """Return the headers of a message that is sent now, by its id."""
    origin = current()
    if origin is None:
        return {CORRELATION: message_id}
    found = {CORRELATION: origin.correlation_id}
    return found if origin.traceparent is None else {**found, TRACEPARENT: origin.traceparent}


def is_traceparent(value: Any) -> bool:
    """Tell whether something is a span's name, as the header has it."""
    return isinstance(value, str) and _TRACEPARENT.fullmatch(value) is not None


def begin(origin: Origin) -> None:
    """Do what follows in this thread for an origin; log lines carry its id."""
    structlog.contextvars.bind_contextvars(correlation_id=origin.correlation_id)
    _origin.set(origin)


def forget() -> None:
    """Do what follows for nobody, and so do log lines."""
    structlog.contextvars.unbind_contextvars("correlation_id")
    _origin.set(None)


@contextmanager
def within(origin: Origin) -> Iterator[None]:
    """Do the block for an origin; log lines carry its id."""
    before = current()
    begin(origin)
    try:
        yield
    finally:
        if before is None:
            forget()
        else:
            begin(before)


@contextmanager
def somebodys() -> Iterator[None]:
    """Do the block for the origin there is, or else for a new one."""
    if current() is not None:
        yield
        return
    with within(new()):
        yield


@contextmanager
def nobodys() -> Iterator[None]:
    """What the block sends is not done for the work at hand, but for its own sake."""
    before = current()
    forget()
    try:
        yield
    finally:
        if before is not None:
            begin(before)


def _is_correlation_id(value: Any) -> bool:
    return isinstance(value, str) and _CORRELATION_ID.fullmatch(value) is not None

"""Spans of what is done here, for whoever was given to `use`; without that nothing is made.

A span is named by what is done and carries ids and figures, never an argument, a body or a secret.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

Attribute = str | int


class Kind(StrEnum):
    """What a span is of: a message sent, a message worked on, something asked of a server, or a
    call within a process."""

    producer = "producer"
    consumer = "consumer"
    client = "client"
    internal = "internal"


class Span(Protocol):
    """Something that is under way. `traceparent` is its name for those who go on with it."""

    traceparent: str

    def end(self, *, error: str | None = None, **attributes: Attribute) -> None:
        """Say that it is over. Any thread may.

        Args:
            error: what went wrong, in a word; None if nothing did.
        """


class Tracer(Protocol):
    """Makes spans. Any thread may use it."""

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        attributes: Mapping[str, Attribute],
    ) -> Span:
        """Begin a span.

        Args:
            parent: the traceparent of the span it is part of; None begins a trace.
        """

    def close(self) -> None:
        """Hand over what is still here, within a few seconds."""


_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Say who makes the spans of this process, from now on."""
    global _tracer  # noqa: PLW0603 (one a process)
    _tracer = tracer


def is_on() -> bool:
    """Tell whether spans are made."""
    return _tracer is not None


def begin(name: str, kind: Kind, *, parent: str | None, **attributes: Attribute) -> Span | None:
    """Begin a span; None where none are made."""
    if _tracer is None:
        return None
    return _tracer.begin(name, kind, parent=parent, attributes=attributes)


def close() -> None:
    """Hand over what is still here: before a process ends."""
    if _tracer is not None:
        _tracer.close()

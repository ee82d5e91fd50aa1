"""The bytes a subscriber gets of an event, and how each of its fields is written."""

import datetime as dt
from decimal import Decimal
from typing import Any, Literal, get_origin
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

from webhooks.events.event import Event, Instant, utc

LARGEST_BODY = 256 * 1024
"""Bytes. A larger event is stored thin: its envelope with `truncated: true` and no data."""


class Body(BaseModel):
    """The bytes of one event and whether they had to be stored thin."""

    model_config = ConfigDict(frozen=True)

    content: bytes
    truncated: bool


def serialise(
    event: Event, *, message_id: str, tenant_id: str, sequence: int, timestamp: dt.datetime
) -> Body:
    """Return an event as the compact UTF-8 JSON that is signed, stored and sent.

    Args:
        event: a model of the catalogue.
        message_id: "evt_…", the `webhook-id` for every endpoint, retry and replay.
        tenant_id: whose event it is.
        sequence: counts the events of one object, so that a receiver can tell stale from new.
        timestamp: when it happened, aware.
    """
    envelope = {
        "id": message_id,
        "type": event.topic,
        "timestamp": utc(timestamp),
        "tenant_id": tenant_id,
        "schema_version": event.schema_version,
        "sequence": sequence,
        "data": orjson.Fragment(event.model_dump_json()),
    }
    content = orjson.dumps(envelope)
    if len(content) <= LARGEST_BODY:
        return Body(content=content, truncated=False)
    thin = orjson.dumps({**envelope, "data": {}, "truncated": True})
    return Body(content=thin, truncated=True)


def kinds(event: type[Event]) -> dict[str, str]:
    """Return how each field of an event is written, in the order they are sent.

    One of "text", "quantity", "instant", "instant_or_null", "identifier", "integer".

    Raises:
        TypeError: a field is of another kind.
    """
    return {name: _kind(name, field.annotation) for name, field in event.model_fields.items()}


def _kind(name: str, annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "text"
    if annotation not in _KINDS:
        raise TypeError(f"field {name!r} is {annotation}, which is not written from a row yet")
    return _KINDS[annotation]


_KINDS: dict[Any, str] = {
    str: "text",
    Decimal: "quantity",
    dt.datetime: "instant",
    Instant | None: "instant_or_null",
    UUID: "identifier",
    int: "integer",
}

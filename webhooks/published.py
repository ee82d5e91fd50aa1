"""What subscribers build against: a JSON Schema of every topic, and all of them as AsyncAPI 3.

The schemas are of draft 2020-12, in words that draft 7 and AsyncAPI know as well. They forbid no
field they do not name: fields are added within a `schema_version`, and a receiver ignores those it
does not know.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from webhooks import events, examples

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

ASYNCAPI: Final = "3.0.0"

_ENVELOPE: Final[dict[str, Any]] = {
    "id": {
        "type": "string",
        "pattern": "^evt_[0-9a-f]{32}$",
        "description": "The same for every endpoint, retry and replay, and in `webhook-id`: "
        "what was seen before is handled once.",
    },
    "timestamp": {
        "type": "string",
        "format": "date-time",
        "description": "When it happened, UTC.",
    },
    "tenant_id": {
        "type": "string",
        "maxLength": 64,
        "description": "Whose it is; empty if it is the operator's own.",
    },
    "sequence": {
        "type": "integer",
        "minimum": 0,
        "description": "Counts the events of one object: one that is lower than what was handled "
        "is stale.",
    },
    "truncated": {
        "const": True,
        "description": "The data would have been too large to send: it is empty.",
    },
}

_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "properties": {
        "webhook-id": {"type": "string", "description": "The event's id."},
        "webhook-timestamp": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "Unix seconds of the attempt; refuse what is older than five minutes.",
        },
        "webhook-signature": {
            "type": "string",
            "description": "Standard Webhooks 1.0.0: `v1,` or `v1a,` and base64, one for each live "
            "key, with one space between them; of id.timestamp.body.",
        },
        "x-topic": {"type": "string", "description": "The event's type."},
        "x-attempt": {"type": "string", "pattern": "^[0-9]+$", "description": "1 is the first."},
        "x-payload-version": {"type": "string", "pattern": "^[0-9]+$"},
        "traceparent": {
            "type": "string",
            "description": "The attempt's span in the trace of what it tells of (W3C Trace "
            "Context), where there is one.",
        },
    },
}

_ABOUT: Final = (
    "Facts of a billing back office, each signed and sent by POST until it is answered 2xx. Every "
    "event comes at least once, and again with the same id; answer within 15 seconds, and work "
    "afterwards. Fields are added within a schema_version, and nothing else changes."
)


def data_schema(event: type[events.Event]) -> dict[str, Any]:
    """Return the schema of a topic's data, in the order of its fields."""
    given = event.model_json_schema(mode="serialization")
    schema = _without_titles(given)
    del schema["additionalProperties"]
    return {"description": _paragraphs(event), **schema}


def payload_schema(event: type[events.Event]) -> dict[str, Any]:
    """Return the schema of a topic's whole body."""
    properties = {
        "id": _ENVELOPE["id"],
        "type": {"const": event.topic},
        "timestamp": _ENVELOPE["timestamp"],
        "tenant_id": _ENVELOPE["tenant_id"],
        "schema_version": {"const": event.schema_version},
        "sequence": _ENVELOPE["sequence"],
        "data": {"type": "object"},
        "truncated": _ENVELOPE["truncated"],
    }
    return {
        "title": event.topic,
        "description": _paragraphs(event),
        "type": "object",
        "required": [name for name in properties if name != "truncated"],
        "properties": properties,
        "if": {"required": ["truncated"]},
        "then": {"properties": {"data": {"maxProperties": 0}}},
        "else": {"properties": {"data": data_schema(event)}},
    }


def document(event: type[events.Event]) -> dict[str, Any]:
    """Return a topic's schema as a document of its own, with an example."""
    return {
        "$schema": DRAFT,
        "$id": f"urn:billing:event:{event.topic}:{event.schema_version}",
        **payload_schema(event),
        "examples": [examples.payload(event)],
    }


def asyncapi() -> dict[str, Any]:
    """Return every topic as one AsyncAPI 3 document."""
    topics = sorted(events.CATALOGUE)
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "billing webhooks",
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "endpoint": {
                "address": None,
                "description": "The URL that was given to billing.create_endpoint.",
                "messages": {topic: _ref("components", "messages", topic) for topic in topics},
            }
        },
        "operations": {
            "deliver": {
                "action": "send",
                "channel": _ref("channels", "endpoint"),
                "messages": [_ref("channels", "endpoint", "messages", topic) for topic in topics],
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            }
        },
        "components": {"messages": {topic: _message(events.CATALOGUE[topic]) for topic in topics}},
    }


def text(document: Mapping[str, Any]) -> str:
    """Return a document as it is published, byte for byte."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _message(event: type[events.Event]) -> dict[str, Any]:
    tags = {"tags": [{"name": "operator", "description": "For the operator's endpoints alone."}]}
    return {
        "name": event.topic,
        "title": event.topic,
        "summary": _paragraphs(event).partition("\n")[0],
        "contentType": "application/json",
        **(tags if event.for_operator else {}),
        "headers": _HEADERS,
        "payload": payload_schema(event),
        "examples": [{"name": "example", "payload": examples.payload(event)}],
    }


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "/".join(["#", *path])}


def _paragraphs(event: type[events.Event]) -> str:
    """A docstring with its paragraphs on a line each."""
    said = (event.__doc__ or "").strip().split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in said)


def _without_titles(value: Any) -> Any:
    """A schema without the titles that pydantic makes of names."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_titles(item)
        for name, item in value.items()
        if not (name in {"title", "description"} and isinstance(item, str))
    }

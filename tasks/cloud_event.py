"""CloudEvents 1.0, as JSON, beside our own shape of a usage event.

| CloudEvent | usage event |
|---|---|
| `subject` | tenant_id |
| `data.metric`, or else `type` | metric |
| `source` and `id` | idempotency_key, see `key` |
| `time` | at |
| `data.amount`, or else 1 | amount |
| what else is in `data` | metadata |

Extension attributes (`traceparent` and the like) are for those who carry an event; they are not
stored. An event is one of these when it has a `specversion`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict

from tasks import fields, usage_event, usage_fields

VERSION: Final = "1.0"

LONGEST_KEY: Final = 128

NAMES: Final = {
    "tenant_id": "subject",
    "metric": "type",
    "idempotency_key": "id",
    "at": "time",
    "amount": "data.amount",
    "metadata": "data",
}
"""What the producer calls our fields."""


class CloudEvent(TypedDict):
    """A CloudEvent 1.0 in JSON that reports usage."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    specversion: str
    id: str
    source: str
    type: fields.Metric
    subject: fields.TenantId
    time: NotRequired[usage_fields.At]
    data: NotRequired[dict[str, Any]]


def is_one(event: Any) -> bool:
    """Tell whether something is meant to be a CloudEvent."""
    return isinstance(event, dict) and "specversion" in event


def check(
    events: Sequence[Any], *, check: Callable[[Sequence[Any]], usage_event.Checked]
) -> usage_event.Checked:
    """Tell good events from bad ones, in either shape, also mixed.

    Args:
        events: anything, also what is no event at all.
        check: tells good events of our own shape from bad ones, as `usage_event.check` does.
    """
    if not any(map(is_one, events)):
        return check(events)
    faults = [
        usage_event.Fault(place, errors)
        for place, event in enumerate(events)
        if is_one(event) and (errors := _errors(event))
    ]
    bad = {fault.index for fault in faults}
    # `from_one` of what can be mapped; what is wrong with the values themselves shows below.
    places = [place for place in range(len(events)) if place not in bad]
    checked = check(
        [from_one(event) if is_one(event := events[place]) else event for place in places]
    )
    faults += [
        renamed(usage_event.Fault(places[fault.index], fault.errors), events)
        for fault in checked.faults
    ]
    return usage_event.Checked(
        events=checked.events,
        places=[places[index] for index in checked.places],
        faults=sorted(faults, key=lambda fault: fault.index),
    )


def from_one(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage event that a CloudEvent reports, its values as they came.

    Args:
        event: with `id` and `source` as text, and `data`, if any, an object.
    """
    data = dict(event.get("data") or {})
    found = {
        "tenant_id": event.get("subject"),
        "metric": data.pop("metric", event.get("type")),
        "amount": data.pop("amount", 1),
        "idempotency_key": key(event["source"], event["id"]),
        "at": event.get("time"),
        "metadata": data or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def key(source: str, identifier: str) -> str:
    """Return the idempotency key of a CloudEvent: "source#id", or a hash of both.

    The two together are what makes a CloudEvent unique. They are hashed, as "ce:" and 64
    hexadecimal digits of SHA-256, when the key would be longer than 128 characters or could not be
    printed, and when `source` has a "#" of its own, since two pairs could then give one key.
    """
    plain = f"{source}#{identifier}"
    is_storable = len(plain) <= LONGEST_KEY and plain.isprintable() and plain == plain.strip()
    if is_storable and "#" not in source:
        return plain
    together = f"{len(source)}:{source}{identifier}".encode("utf-8", "surrogatepass")
    return f"ce:{hashlib.sha256(together).hexdigest()}"


def field_name(event: Any, field: str | None) -> str | None:
    """Return what the producer of an event calls one of our fields."""
    if field is None or not is_one(event):
        return field
    data = event.get("data")
    if field == "metric" and isinstance(data, dict) and "metric" in data:
        return "data.metric"
    return NAMES.get(field, field)


def renamed(fault: usage_event.Fault, events: Sequence[Any]) -> usage_event.Fault:
    """Return a fault of one of `events` in the words of who sent it."""
    event = events[fault.index]
    errors = [{**error, "field": field_name(event, error["field"])} for error in fault.errors]
    return usage_event.Fault(fault.index, errors)


def _errors(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return why an event can not be mapped; nothing if it can."""
    errors = []
    if event["specversion"] != VERSION:
        errors.append(("specversion", f'must be "{VERSION}"'))
    errors += [
        (name, "must be text that is not empty")
        for name in ("id", "source", "type")
        if not isinstance(event.get(name), str) or not event[name]
    ]
    if "data_base64" in event:
        errors.append(("data_base64", "can not be read; send `data` as a JSON object"))
    if not isinstance(event.get("data"), dict | None):
        errors.append(("data", "must be a JSON object"))
    return [{"field": field, "reason": reason} for field, reason in errors]

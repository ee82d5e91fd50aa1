"""Usage events that were not stored: what is said of them, and what is kept."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from models.rules.refusal import Refusal
from models.store import horizon, inbox
from models.store.recorded import Conflict, Late, Recorded
from tasks import cloud_event, contract, usage_event

TASK: Final = "billing.record_usage"
"""The task whose messages they are."""

Bad: TypeAlias = tuple[int, Literal["conflict", "rejected"], inbox.Rejection]
"""The place of an event that was not stored, why not, and what is kept of it."""


class UsageConflict(Refusal):
    """An idempotency key was used before for an event with another content."""

    code = "usage.conflict"


def of_chunk(
    events: Sequence[Any], checked: usage_event.Checked, recorded: Recorded, *, now: dt.datetime
) -> Iterator[Bad]:
    """Yield the events of a chunk that are bad, in conflict, or of a time that is closed."""
    yield from _rejected(events, checked)
    yield from _unrecorded(events, checked, recorded, now)


def conflicting(event: Mapping[str, Any], conflict: Conflict) -> UsageConflict:
    """Return the refusal of an event whose key was used before."""
    return UsageConflict(
        f"idempotency_key {event['idempotency_key']!r} of metric {event['metric']!r} was used "
        f"before with another {conflict.field}; send the first event unchanged, or use a new key",
        field=conflict.field,
    )


def too_late(event: Mapping[str, Any], late: Late, now: dt.datetime) -> horizon.UsageArchived:
    """Return the refusal of an event of a time that is closed."""
    return horizon.late(event.get("at") or now, late.closed_until)


def _rejected(events: Sequence[Any], checked: usage_event.Checked) -> Iterator[Bad]:
    for fault in checked.faults:
        yield (
            fault.index,
            "rejected",
            _rejection(events[fault.index], contract.InvalidMessage.code, fault.errors),
        )


def _unrecorded(
    events: Sequence[Any], checked: usage_event.Checked, recorded: Recorded, now: dt.datetime
) -> Iterator[Bad]:
    for conflict in recorded.conflicts:
        index = checked.places[conflict.index]
        yield (
            index,
            "conflict",
            _kept(events[index], conflicting(checked.events[conflict.index], conflict)),
        )
    for late in recorded.late:
        index = checked.places[late.index]
        yield (
            index,
            "rejected",
            _kept(events[index], too_late(checked.events[late.index], late, now)),
        )


def _kept(event: Any, refusal: Refusal) -> inbox.Rejection:
    error = {
        "field": cloud_event.field_name(event, refusal.field),
        "reason": refusal.message,
    }
    return _rejection(event, refusal.code, [error])


def _rejection(event: Any, code: str, errors: list[dict[str, Any]]) -> inbox.Rejection:
    tenant_id = None
    if isinstance(event, dict):
        tenant_id = event.get("subject" if cloud_event.is_one(event) else "tenant_id")
    return inbox.Rejection(
        task=TASK,
        tenant_id=tenant_id if isinstance(tenant_id, str) else None,
        # What can be sent again as it is kept, once it is mended.
        payload={"events": [event]} if cloud_event.is_one(event) else event,
        code=code,
        errors=errors,
    )

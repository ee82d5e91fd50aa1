"""One entry of the stream of usage: read, or why it can not be."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydantic_core
import structlog

from models import database
from models.store import inbox
from tasks import message_faults, usage_chunk, usage_refused
from tasks.producer.stream import FIELD

LONGEST_TEXT = 64 * 1024
"""Characters that are kept of an entry that is no JSON."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream.

    Args:
        event: its JSON; what could be read of it, if that is none.
        fault: why it can not be an event at all.
    """

    id: bytes
    event: Any
    fault: str | None = None


def parse(identifier: bytes, values: dict[bytes, bytes]) -> Entry:
    """Read an entry; of one that is no event it says why."""
    raw = values.get(FIELD.encode())
    if raw is None or len(values) > 1:
        named = {_text(name): _text(value) for name, value in values.items()}
        return Entry(identifier, named, f"must be the one field of an entry: {FIELD}, as JSON")
    try:
        # Integers of any size stay exact here, and NaN is no JSON.
        return Entry(identifier, pydantic_core.from_json(raw, allow_inf_nan=False))
    except ValueError as error:
        return Entry(identifier, _text(raw), f"must be JSON: {error}")


def record(
    session: database.Session, entries: Sequence[Entry], *, now: dt.datetime
) -> Counter[str]:
    """Store what can be, keep what can not, and count both."""
    unreadable = [
        rejection(entry, message_faults.InvalidMessage.code, entry.fault)
        for entry in entries
        if entry.fault is not None
    ]
    events = [entry.event for entry in entries if entry.fault is None]
    answer = usage_chunk.record(session, usage_chunk.look(events, now=now))
    kept = inbox.keep_rejections(session, unreadable, now=now)
    if kept:
        log.warning("usage_stream.unreadable", count=len(kept), rejected_message_id=kept[0])
    return Counter(
        accepted=answer["accepted"],
        duplicate=answer["duplicate"],
        conflict=answer["conflict"],
        rejected=answer["rejected"] + len(kept),
    )


def rejection(entry: Entry, code: str, reason: str) -> inbox.Rejection:
    """Return an entry as it is kept for an operator."""
    tenant_id = entry.event.get("tenant_id") if isinstance(entry.event, dict) else None
    return inbox.Rejection(
        task=usage_refused.TASK,
        tenant_id=tenant_id if isinstance(tenant_id, str) else None,
        payload={"events": [entry.event]},
        code=code,
        errors=[{"field": FIELD, "reason": reason}],
        message_id=entry.id.decode(),
    )


def _text(raw: bytes) -> str:
    return raw[:LONGEST_TEXT].decode("utf-8", "backslashreplace")

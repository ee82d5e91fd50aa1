"""One usage event as a line of JSON, as a producer writes it: stamped, so that it can be resent."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from pydantic_core import PydanticCustomError

from models.rules import ids
from tasks import storable

LONGEST_LINE = 64 * 1024
"""Bytes. Metadata is at most 16 KiB: what is longer would be refused anyway."""


class InvalidEvent(ValueError):
    """An event that can not be written as it was given; nothing of it was kept.

    What can be written and is still wrong is for the worker to refuse: it keeps it, and somebody
    can mend and replay it.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


def write(
    *,
    tenant_id: str,
    metric: str,
    amount: Decimal | int | str,
    at: dt.datetime | None,
    idempotency_key: str | None,
    metadata: Mapping[str, Any] | None,
    now: dt.datetime,
) -> tuple[str, bytes]:
    """Return the event's idempotency key and its JSON, without a line break.

    Args:
        amount: how much; a float is refused, since a bill is exact.
        at: when it happened, UTC if it names no zone; `now` if absent.
        idempotency_key: a new UUID of version 7 if absent.
        metadata: what JSON can hold, at most 16 KiB.

    Raises:
        InvalidEvent: naming the field.
    """
    event: dict[str, Any] = {
        "tenant_id": tenant_id,
        "metric": metric,
        "amount": _amount(amount),
        "at": _instant(now if at is None else at),
        "idempotency_key": str(ids.uuid7(now)) if idempotency_key is None else idempotency_key,
    }
    if metadata:
        event["metadata"] = _metadata(metadata)
    try:
        line = orjson.dumps(event)
    except TypeError as error:
        raise InvalidEvent("event", f"can not be written as JSON: {error}") from None
    if len(line) > LONGEST_LINE:
        raise InvalidEvent("event", f"has {len(line)} bytes as JSON, at most {LONGEST_LINE} go")
    key: str = event["idempotency_key"]
    return key, line


def _amount(amount: Decimal | int | str) -> str:
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise InvalidEvent("amount", f"is a {type(amount).__name__}; give a Decimal, int or text")
    return str(amount)


def _instant(at: dt.datetime) -> str:
    if not isinstance(at, dt.datetime):
        raise InvalidEvent("at", f"is a {type(at).__name__}; give a datetime")
    return (at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)).isoformat()


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return storable.metadata(dict(metadata))
    except PydanticCustomError as error:
        raise InvalidEvent("metadata", error.message()) from None

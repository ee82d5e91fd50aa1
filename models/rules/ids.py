"""Identifiers that sort by time."""

import re
import secrets
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

EVENT_PREFIX: Final = "evt_"

RANDOM_BITS: Final = 62
"""Of a UUID of version 7."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_SHIFT: Final = 128 - 48
_NOISE: Final = (1 << RANDOM_BITS) - 1
_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_EVENT_ID: Final = re.compile(EVENT_PREFIX + r"([0-9a-f]{32})")


class InstantOutOfRange(ValueError):
    """The instant has no time zone or does not fit the timestamp of a UUID."""

    def __init__(self, now: datetime) -> None:
        super().__init__(
            f"instant {now.isoformat()} can not be in a UUID: it must have a time zone and not be "
            "before 1970"
        )


def uuid7(now: datetime, random_bits: int | None = None) -> UUID:
    """A version 7 UUID for the aware instant `now` (RFC 9562, section 5.7).

    48 bits of milliseconds, then the fraction of the millisecond in 12 bits (section 6.2, method
    3), then `random_bits` (62, drawn when absent): ids of different microseconds sort by time, ids
    of one microsecond in no order. Raises InstantOutOfRange before 1970 or without a time zone.
    """
    return UUID(
        int=_uuid7(now, secrets.randbits(RANDOM_BITS) if random_bits is None else random_bits)
    )


def uuid7_hex(now: datetime, random_bits: int) -> str:
    """The 32 hexadecimal digits of `uuid7`, for where nobody wants the object."""
    return f"{_uuid7(now, random_bits):032x}"


def _uuid7(now: datetime, random_bits: int) -> int:
    if now.utcoffset() is None or now < _EPOCH:
        raise InstantOutOfRange(now)
    # In integers: an id is made for each attempt, and arithmetic with timedeltas is slow.
    since = now - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    milliseconds, rest = divmod(seconds * 1_000_000 + since.microseconds, 1000)
    fraction = rest * 4096 // 1000
    noise = random_bits & _NOISE
    return milliseconds << _TIMESTAMP_SHIFT | _VERSION | fraction << 64 | _VARIANT | noise


def event_id(identifier: UUID) -> str:
    """The public id of an outbox message: "evt_" and 32 hexadecimal digits."""
    return EVENT_PREFIX + identifier.hex


class MalformedEventId(ValueError):
    """The text is not an event id."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"malformed event id {text[:64]!r}: it must be {EVENT_PREFIX} and 32 lower-case "
            "hexadecimal digits"
        )


def parse_event_id(text: str) -> UUID:
    """The UUID in an event id as `event_id` writes it. Raises MalformedEventId."""
    match = _EVENT_ID.fullmatch(text)
    if match is None:
        raise MalformedEventId(text)
    return UUID(hex=match[1])

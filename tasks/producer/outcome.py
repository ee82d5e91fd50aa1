"""What became of events: counts, and those that were refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from tasks.producer.sender import Chunk, Given


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of events. recorded + recovered = accepted + duplicate + refused + pending.

    Args:
        recorded: taken by `record`.
        recovered: found on disk, left by a producer that ended before their answer came.
        accepted: stored by the message that was answered.
        duplicate: were stored before, such as by a message whose answer got lost.
        refused: handed to `on_refused`.
        pending: not answered yet.
        sent: were taken up for sending, each counted once however often it is sent again.
    """

    recorded: int = 0
    recovered: int = 0
    accepted: int = 0
    duplicate: int = 0
    refused: int = 0
    pending: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was not stored.

    Args:
        event: as it was sent.
        verdict: its key was used for another event ("conflict"), it is not valid ("rejected"), or
            workers failed at its chunk again and again ("failed").
        rejected_message_id: where the workers keep it; None if unknown.
    """

    event: dict[str, Any]
    verdict: Literal["conflict", "rejected", "failed"]
    field: str | None
    reason: str
    rejected_message_id: int | None


def refused(chunk: Chunk, given: Given) -> Iterator[RefusedEvent]:
    """Return the events of a chunk that were not stored."""
    if given.answer is None:
        reason = f"workers failed at it: {given.error}"
        for line in chunk.lines():
            yield RefusedEvent(orjson.loads(line), "failed", None, reason, None)
    elif given.answer["refused"]:
        lines = chunk.lines()
        for each in given.answer["refused"]:
            yield RefusedEvent(
                event=orjson.loads(lines[each["index"]]),
                verdict=each["verdict"],
                field=each["field"],
                reason=each["reason"],
                rejected_message_id=each["rejected_message_id"],
            )

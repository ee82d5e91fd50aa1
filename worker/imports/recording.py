"""What becomes of the chunks of an import: they are stored, or it is told what would become."""

import datetime as dt
from collections.abc import Sequence

from models import database
from tasks import usage_chunk
from worker.imports import mapping
from worker.imports.run import Look, Recording


def storing(arrival: dt.datetime | None = None) -> Recording:
    """Store events, each chunk in a transaction.

    Args:
        arrival: when they arrive; None is when they have been read.
    """
    return Recording(_looking(arrival), usage_chunk.store)


def previewing(arrival: dt.datetime | None = None) -> Recording:
    """Tell what would become of events, and store nothing."""
    return Recording(_looking(arrival), _preview)


def _looking(arrival: dt.datetime | None) -> Look:
    def look(events: Sequence[mapping.Event]) -> usage_chunk.Looked:
        return usage_chunk.look(events, now=arrival or dt.datetime.now(dt.UTC))

    return look


def _preview(looked: usage_chunk.Looked) -> usage_chunk.Preview:
    with database.transaction() as session:
        return usage_chunk.preview(session, looked)

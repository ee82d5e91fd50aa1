"""Keep the house in order: what must be there before it is needed."""

import datetime as dt
from typing import TypedDict

import structlog

from models import database
from models.store import partition
from tasks import contract, fields
from tasks.queues import Queue

DAYS_AHEAD = 7
"""Days of partitions made in advance: a beat that stands still for a week does no harm."""

log = structlog.get_logger(__name__)


class PartitionsAnswer(TypedDict):
    """Days whose partition was made now, and how many rows of theirs had waited elsewhere."""

    created: list[str]
    moved: int


@contract.job("billing.prepare_partitions", queue=Queue.billing)
def prepare_partitions(*, as_of: fields.Instant = contract.NOW) -> PartitionsAnswer:
    """Make the day partitions of delivery attempts for today and the seven days after it.

    Runs every hour. Twice is harmless, also at the same time: what is there stays. Each day is a
    transaction of its own, so if it dies half way the next run makes the rest; until then attempts
    are kept in the default partition, from which they move once their day has its own.

    Args:
        as_of: the day to begin with, by UTC.
    """
    first = as_of.astimezone(dt.UTC).date()
    created: dict[str, int] = {}
    for day in (first + dt.timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)):
        with database.transaction() as session:
            moved = partition.ensure_day(session, day)
        if moved is not None:
            created[day.isoformat()] = moved
    if created:
        log.info("partitions.created", days=list(created), moved=sum(created.values()))
    return {"created": list(created), "moved": sum(created.values())}

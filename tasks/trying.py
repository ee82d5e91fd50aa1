"""Trying again: what the database undid, or could not be reached for."""

import random
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import structlog
from celery.exceptions import Reject

from models import database, failures
from tasks.spec import Spec

T = TypeVar("T")

MOST_TRIES = 6
"""How often one call runs its transaction when PostgreSQL undoes it or can not be reached."""

SHORTEST_PAUSE = 0.02
"""Seconds, doubled before each further try and multiplied by a random 0.5 to 1.5."""

REQUEUE_PAUSE = 5.0
"""Seconds before a message goes back to its queue when the database stays unreachable."""

log = structlog.get_logger(__name__)


def insist(work: Callable[[database.Session], T]) -> T:
    """Do `work` in a transaction; again, a bounded number of times, if the database undid it.

    As the body of a task is run that is called in this process.
    """

    def once() -> T:
        with database.transaction() as session:
            return work(session)

    return again(once)


def bounded(spec: Spec, message_id: str | None, work: Callable[[], T]) -> T:
    """Do `work`, again if need be; put a message back to its queue if the database stays away."""
    try:
        return again(work)
    except Exception as error:
        is_message = spec.kind == "command" and message_id is not None
        if is_message and failures.is_unreachable(error):
            _put_back(spec, error)
        raise


def again(work: Callable[[], T]) -> T:
    """Do `work`; again, a bounded number of times, if the database undid it or was away."""
    for tried in range(1, MOST_TRIES + 1):
        try:
            return work()
        except Exception as error:
            may_work = failures.is_unreachable(error) or failures.is_retryable(error)
            if not may_work or tried == MOST_TRIES:
                raise
        time.sleep(SHORTEST_PAUSE * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
    raise AssertionError("the last try returns or raises")


def _put_back(spec: Spec, error: BaseException) -> NoReturn:
    """Return a command to its queue: it may be the only copy of a fact, and can not be kept."""
    log.warning("task.put_back", task=spec.name, reason=type(error).__name__)
    time.sleep(REQUEUE_PAUSE)
    raise Reject(reason="the database is unreachable", requeue=True)

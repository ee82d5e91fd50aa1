"""One exchange with the database that is tried again while it is undone or the database is away."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from models import failures

T = TypeVar("T")

MOST_TRIES = 8
"""How often one exchange is tried."""

LONGEST_PAUSE = 5.0
"""Seconds between two of those tries; the first pause is a twentieth of it and they double."""

log = structlog.get_logger(__name__)


def persist(exchange: Callable[[], T]) -> T:
    """Run an exchange, again if it was undone or the database was away, and return what it does.

    What a sender is to write back is known to nobody else: to give up at once would mean to send it
    again.
    """
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            return exchange()
        except Exception as error:
            passing = failures.is_retryable(error) or failures.is_unreachable(error)
            if not passing or tries_left == 0:
                raise
            log.warning("sender.database_away", reason=type(error).__name__)
            doublings = MOST_TRIES - 1 - tries_left
            time.sleep(min(LONGEST_PAUSE, LONGEST_PAUSE / 20 * 2**doublings))
    raise AssertionError("unreachable: the last try returns or raises")

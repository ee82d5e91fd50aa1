"""Whether this process may send: it has a master key to sign with, and a clock that is right."""

import datetime as dt
import time
from typing import Final

import structlog

from tasks import clock, config

STOP_SECONDS: Final = 30.0
"""After the clock was found to be wrong, nothing is claimed for so long."""

WARN_INTERVAL: Final = 60.0
"""Seconds between two warnings of one process about one thing."""

log = structlog.get_logger(__name__)
_stopped_until = 0.0
_warned_at: dict[str, float] = {}


def may_send() -> bool:
    """Tell whether to claim anything; say why not, now and then."""
    if config.current().keyring is None:
        _warn("sender.no_master_key", remedy="set BILLING_MASTER_KEYS; deliveries wait")
        return False
    return not is_stopped_by_clock()


def is_stopped_by_clock() -> bool:
    """Tell whether the clock was wrong a moment ago: signatures would be refused."""
    return time.monotonic() < _stopped_until


def check_clock(theirs: dt.datetime, *, before: dt.datetime, after: dt.datetime) -> None:
    """Compare the database's clock, read between `before` and `after` by ours, with ours."""
    global _stopped_until  # noqa: PLW0603 (one clock a process)
    apart = clock.difference(theirs, before=before, after=after)
    seconds = round(apart.total_seconds())
    match clock.judge(apart):
        case clock.Judgement.stop:
            _stopped_until = time.monotonic() + STOP_SECONDS
            _warn("sender.stopped_by_clock", seconds=seconds, remedy=clock.REMEDY)
        case clock.Judgement.warn:
            _warn("sender.clock_differs", seconds=seconds, remedy=clock.REMEDY)


def _warn(event: str, **said: object) -> None:
    if time.monotonic() - _warned_at.get(event, -WARN_INTERVAL) >= WARN_INTERVAL:
        _warned_at[event] = time.monotonic()
        log.warning(event, **said)

"""What time it is, and our clock against the database's.

Signatures carry ours, and receivers refuse an odd one.
"""

import datetime as dt
from enum import StrEnum
from typing import Final

WARN_ABOVE: Final = dt.timedelta(seconds=30)
STOP_ABOVE: Final = dt.timedelta(seconds=120)
"""Receivers allow five minutes, a clock of their own included."""

JUST_NOW: Final = dt.timedelta(seconds=60)
"""An `as_of` so long ago is of a call that was to be as of now, and whose process stood still."""

REMEDY: Final = "synchronise both hosts by NTP"


class Judgement(StrEnum):
    """What a difference means for the sender."""

    fine = "fine"
    warn = "warn"
    stop = "stop"


def now() -> dt.datetime:
    """Return the instant of the call."""
    return dt.datetime.now(dt.UTC)


def difference(theirs: dt.datetime, *, before: dt.datetime, after: dt.datetime) -> dt.timedelta:
    """Return how far our clock is from one that was read between `before` and `after` by ours."""
    return max(before - theirs, theirs - after, dt.timedelta(0))


def judge(apart: dt.timedelta) -> Judgement:
    """Return what to do with clocks so far apart: warn above 30 s, send nothing above 120 s."""
    if abs(apart) > STOP_ABOVE:
        return Judgement.stop
    return Judgement.warn if abs(apart) > WARN_ABOVE else Judgement.fine


def ahead(as_of: dt.datetime, *, now: dt.datetime) -> dt.timedelta:
    """Return how far ahead of the clock a run as of an instant is; less than 0 for behind.

    The instant of a call is read before its run begins. A run that took the moment between for a
    part of its errand would be behind by that much, and what happens meanwhile would not be due.

    Args:
        as_of: what the run was told; within the last minute it is taken for now.
        now: when it begins.
    """
    apart = as_of - now
    return dt.timedelta(0) if -JUST_NOW < apart < dt.timedelta(0) else apart

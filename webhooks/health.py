"""How an endpoint is doing: its circuit, when to disable it, when to tell its owner. Pure policy.

A circuit is *closed* (send), *open* (defer, without spending attempts) or *probing* (one attempt
is out to see). It is a small value kept beside the endpoint; `now` is always an argument.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final

OPEN_AFTER_CONSECUTIVE: Final = 5
OPEN_AT_PERCENT: Final = 70
OPEN_AT_LEAST: Final = 10
"""Attempts in the window below which the percentage says nothing."""
BUCKET: Final = timedelta(seconds=30)
BUCKETS: Final = 10
"""Ten buckets of 30 s: the window is the last 5 minutes, to the bucket."""
PROBE_DELAY_FIRST: Final = timedelta(seconds=30)
PROBE_DELAY_MAX: Final = timedelta(minutes=10)
PROBE_LEASE: Final = timedelta(seconds=60)
"""How long a probe may stay unanswered (its sender was killed) before another may go."""

DISABLE_AFTER: Final = timedelta(days=5)
DISABLE_FAILURES: Final = 20
DISABLE_EVENTS: Final = 2


@dataclass(frozen=True, slots=True)
class Bucket:
    """Attempts that ended in one stretch of 30 s; `slot` counts those stretches from 1970."""

    slot: int
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of one endpoint. A fresh one is closed."""

    consecutive_failures: int = 0
    window: tuple[Bucket, ...] = ()
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    """While open: when the next attempt may go as a probe."""
    probe_delay: timedelta = PROBE_DELAY_FIRST
    probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether ordinary attempts are deferred."""
        return self.opened_at is not None

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-ready values; `from_dict` reads it."""
        return {
            "consecutive_failures": self.consecutive_failures,
            "window": [[b.slot, b.attempts, b.failures] for b in self.window],
            "opened_at": self.opened_at and self.opened_at.isoformat(),
            "probe_at": self.probe_at and self.probe_at.isoformat(),
            "probe_delay_seconds": int(self.probe_delay.total_seconds()),
            "probing": self.probing,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Circuit":
        """The state again; an empty mapping is a fresh circuit."""
        if not state:
            return cls()
        return cls(
            consecutive_failures=state["consecutive_failures"],
            window=tuple(Bucket(*bucket) for bucket in state["window"]),
            opened_at=_instant(state["opened_at"]),
            probe_at=_instant(state["probe_at"]),
            probe_delay=timedelta(seconds=state["probe_delay_seconds"]),
            probing=state["probing"],
        )


@unique
class Admission(StrEnum):
    """Whether an attempt may go now."""

    SEND = "send"
    PROBE = "probe"
    """This one attempt may go, to see whether the endpoint is back."""
    DEFER = "defer"
    """Not before `Circuit.probe_at`; no attempt is spent."""


@unique
class Notice(StrEnum):
    """What an endpoint's owner is told, once per run of failures."""

    OPENED = "opened"
    FAILING_24H = "failing_24h"
    FAILING_72H = "failing_72h"
    DISABLED = "disabled"


def admit(circuit: Circuit, *, now: datetime) -> tuple[Admission, Circuit]:
    """Ask to send: the answer and the state to keep (a probe takes the endpoint's only turn)."""
    if circuit.probe_at is None:
        return Admission.SEND, circuit
    if now < circuit.probe_at:
        return Admission.DEFER, circuit
    return Admission.PROBE, replace(circuit, probing=True, probe_at=now + PROBE_LEASE)


def record(circuit: Circuit, *, succeeded: bool, now: datetime) -> Circuit:
    """The circuit after an attempt ended.

    Any success closes it, also one that was under way when it opened: the endpoint answers. A
    failed probe doubles the wait up to 10 minutes; failures of attempts that were under way when
    it opened change nothing.
    """
    if circuit.is_open:
        return Circuit() if succeeded else _still_open(circuit, now)
    failures = 0 if succeeded else circuit.consecutive_failures + 1
    window = _counted(circuit.window, failed=not succeeded, now=now)
    if _must_open(failures, window):
        return Circuit(failures, window, opened_at=now, probe_at=now + PROBE_DELAY_FIRST)
    return replace(circuit, consecutive_failures=failures, window=window)


def should_disable(
    *, failing_since: datetime | None, failures: int, events: int, now: datetime
) -> bool:
    """Whether an endpoint has failed long and often enough to be disabled.

    `failing_since` is its first failure after its last success (None: none), so that an endpoint
    that was merely idle for days is not disabled within its first bad hour; `failures` and
    `events` count failed attempts and distinct messages among them since then.
    """
    return (
        failing_since is not None
        and now - failing_since >= DISABLE_AFTER
        and failures >= DISABLE_FAILURES
        and events >= DISABLE_EVENTS
    )


def notices_due(
    *,
    opened: bool,
    failing_since: datetime | None,
    disabled: bool,
    sent: Collection[Notice],
    now: datetime,
) -> tuple[Notice, ...]:
    """The notices to send now, in order; `sent` are those of this run of failures already out."""
    failing_for = timedelta(0) if failing_since is None else now - failing_since
    due = {
        Notice.OPENED: opened,
        Notice.FAILING_24H: failing_for >= timedelta(hours=24),
        Notice.FAILING_72H: failing_for >= timedelta(hours=72),
        Notice.DISABLED: disabled,
    }
    return tuple(notice for notice, is_due in due.items() if is_due and notice not in sent)


def _still_open(circuit: Circuit, now: datetime) -> Circuit:
    if not circuit.probing:
        return circuit
    delay = min(circuit.probe_delay * 2, PROBE_DELAY_MAX)
    return replace(circuit, probing=False, probe_delay=delay, probe_at=now + delay)


def _must_open(consecutive_failures: int, window: tuple[Bucket, ...]) -> bool:
    if consecutive_failures >= OPEN_AFTER_CONSECUTIVE:
        return True
    attempts = sum(bucket.attempts for bucket in window)
    failures = sum(bucket.failures for bucket in window)
    return attempts >= OPEN_AT_LEAST and failures * 100 >= attempts * OPEN_AT_PERCENT


def _counted(window: tuple[Bucket, ...], *, failed: bool, now: datetime) -> tuple[Bucket, ...]:
    slot = int(now.timestamp() // BUCKET.total_seconds())
    recent = {bucket.slot: bucket for bucket in window if slot - BUCKETS < bucket.slot <= slot}
    last = recent.get(slot, Bucket(slot, 0, 0))
    recent[slot] = Bucket(slot, last.attempts + 1, last.failures + failed)
    return tuple(recent[key] for key in sorted(recent))


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

"""How an endpoint is doing: its circuit, its run of failures, what is told of it. Pure policy.

A circuit is *closed* (send) or *open* (defer, without spending attempts, and let one attempt
through now and then to see). It opens at five failures in a row, or when at least 70 % of at least
ten attempts of the last five minutes failed. Any success closes it: the endpoint answers.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from webhooks import endpoint_condition
from webhooks.endpoint_condition import Bucket, Circuit, Condition, Notice, Trouble

OPEN_AFTER_CONSECUTIVE: Final = 5
OPEN_AT_PERCENT: Final = 70
OPEN_AT_LEAST: Final = 10
"""Attempts in the window below which the percentage says nothing."""
BUCKET: Final = timedelta(seconds=30)
BUCKETS: Final = 10
WINDOW: Final = BUCKET * BUCKETS
"""The last 5 minutes, to the bucket of 30 s."""
PROBE_DELAY_MAX: Final = timedelta(minutes=10)

DISABLE_AFTER: Final = timedelta(days=5)
DISABLE_FAILURES: Final = 20
DISABLE_EVENTS: Final = 2
TELL_OPENING_AGAIN: Final = timedelta(hours=24)
"""An endpoint that comes and goes all day is told of once a day."""
LOOK_AGAIN: Final = timedelta(hours=1)
"""How often an endpoint is judged that has failed for five days, but too seldom to disable it."""


def lanes(circuit: Circuit, *, most: int, now: datetime) -> int:
    """How many attempts may be under way at once: `most`, or while open none, then one to see."""
    if circuit.probe_at is None:
        return most
    return 1 if now >= circuit.probe_at else 0


def succeed(condition: Condition, *, times: int = 1, now: datetime) -> Condition:
    """The condition after so many attempts ended well.

    That closes the circuit, also if they were under way when it opened, and ends the trouble.
    """
    circuit = condition.circuit
    after = Circuit() if circuit.is_open else _counted(circuit, times=times, failed=False, now=now)
    return Condition(after, opening_told_at=condition.opening_told_at)


def fail(condition: Condition, *, event: str, now: datetime) -> Condition:
    """The condition after an attempt with `event` ended badly.

    While the circuit is open, a failure before the probe's turn is of an attempt that was under way
    when it opened, and changes nothing of it; the probe's doubles the wait up to 10 minutes.
    """
    before, circuit = condition.trouble, condition.circuit
    events = before.events
    if event not in events and len(events) < DISABLE_EVENTS:
        events = (*events, event)
    return replace(
        condition,
        circuit=(
            _still_open(circuit, now)
            if circuit.is_open
            else _counted(circuit, times=1, failed=True, now=now)
        ),
        trouble=Trouble(before.began_at or now, before.failures + 1, events, before.told),
    )


def should_disable(trouble: Trouble, *, now: datetime) -> bool:
    """Whether an endpoint has failed long and often enough to be disabled.

    Its time counts from the first failure after its last success, so that an endpoint that was
    merely idle for days is not disabled within its first bad hour.
    """
    return (
        trouble.began_at is not None
        and now - trouble.began_at >= DISABLE_AFTER
        and trouble.failures >= DISABLE_FAILURES
        and len(trouble.events) >= DISABLE_EVENTS
    )


def notices_due(condition: Condition, *, now: datetime) -> tuple[Notice, ...]:
    """What is to be told now, in order; `tell` remembers it."""
    trouble = condition.trouble
    failing_for = timedelta(0) if trouble.began_at is None else now - trouble.began_at
    due = {
        Notice.OPENED: condition.circuit.is_open and _may_tell_opening(condition, now),
        Notice.FAILING_24H: failing_for >= timedelta(hours=24),
        Notice.FAILING_72H: failing_for >= timedelta(hours=72),
        Notice.DISABLED: should_disable(trouble, now=now),
    }
    return tuple(notice for notice, is_due in due.items() if is_due and notice not in trouble.told)


def tell(condition: Condition, notices: Iterable[Notice], *, now: datetime) -> Condition:
    """The condition once `notices` are out."""
    told = frozenset(notices)
    return replace(
        condition,
        trouble=replace(condition.trouble, told=condition.trouble.told | told),
        opening_told_at=now if Notice.OPENED in told else condition.opening_told_at,
    )


def review_at(condition: Condition, *, now: datetime) -> datetime | None:
    """When to judge the endpoint again though nothing happens to it; None while it is well."""
    trouble = condition.trouble
    if trouble.began_at is None:
        return None
    if Notice.FAILING_24H not in trouble.told:
        return trouble.began_at + timedelta(hours=24)
    if Notice.FAILING_72H not in trouble.told:
        return trouble.began_at + timedelta(hours=72)
    return max(trouble.began_at + DISABLE_AFTER, now + LOOK_AGAIN)


def _counted(circuit: Circuit, *, times: int, failed: bool, now: datetime) -> Circuit:
    """A closed circuit after attempts that all ended alike, opened if that is too much."""
    slot = int(now.timestamp() // BUCKET.total_seconds())
    recent = {b.slot: b for b in circuit.window if slot - BUCKETS < b.slot <= slot}
    last = recent.get(slot, Bucket(slot, 0, 0))
    recent[slot] = Bucket(slot, last.attempts + times, last.failures + times * failed)
    window = tuple(recent[key] for key in sorted(recent))
    failures = circuit.consecutive_failures + times if failed else 0
    opens = _must_open(failures, window)
    return Circuit(
        failures, window, probe_at=now + endpoint_condition.PROBE_DELAY_FIRST if opens else None
    )


def _still_open(circuit: Circuit, now: datetime) -> Circuit:
    if lanes(circuit, most=1, now=now) == 0:
        return circuit
    delay = min(circuit.probe_delay * 2, PROBE_DELAY_MAX)
    failures = circuit.consecutive_failures + 1
    return Circuit(failures, circuit.window, probe_at=now + delay, probe_delay=delay)


def _must_open(consecutive_failures: int, window: tuple[Bucket, ...]) -> bool:
    if consecutive_failures >= OPEN_AFTER_CONSECUTIVE:
        return True
    attempts = sum(bucket.attempts for bucket in window)
    failures = sum(bucket.failures for bucket in window)
    return attempts >= OPEN_AT_LEAST and failures * 100 >= attempts * OPEN_AT_PERCENT


def _may_tell_opening(condition: Condition, now: datetime) -> bool:
    told_at = condition.opening_told_at
    return told_at is None or now - told_at >= TELL_OPENING_AGAIN

"""Writing back what came of deliveries: their states, their endpoints' health, what is told."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from models import database
from models.rules.states import DeliveryState, EndpointState
from models.store import delivery, endpoint_health
from models.store.endpoint_health import Health, Locked
from tasks import delivery_notices, outcomes
from tasks.outcomes import Verdict
from webhooks import health
from webhooks.endpoint_condition import Condition, Notice

REVIEWED_AT_ONCE: Final = 100
"""Endpoints judged again in one transaction."""

TALLY_INTERVAL: Final = dt.timedelta(seconds=1)
"""How long successes may wait to be counted: once a second costs a busy endpoint's row nothing."""


class Tally:
    """Successes of endpoints that are well, not counted yet. They matter once there are failures.

    A process that fails an endpoint counts its own successes first, so it never opens a circuit too
    early; of other processes' it may lack those of the last second.
    """

    def __init__(self) -> None:
        self._counts: Counter[UUID] = Counter()
        self._counted_at: dt.datetime | None = None

    def is_due(self, now: dt.datetime) -> bool:
        """Tell whether it is time to count what there is."""
        return self._counted_at is None or abs(now - self._counted_at) >= TALLY_INTERVAL

    def waiting(self, now: dt.datetime) -> Mapping[UUID, int]:
        """Return what has not been counted; nothing once it is too old to say anything."""
        if self._counted_at is not None and abs(now - self._counted_at) >= health.WINDOW:
            self._counts.clear()
        return self._counts

    def settle(self, verdicts: Sequence[Verdict], recorded: "Recorded", now: dt.datetime) -> None:
        """Remember the successes that a committed `record` did not count, and forget the rest."""
        self._counts.update(one.endpoint_id for one in verdicts if one.succeeded)
        for endpoint_id in recorded.counted:
            del self._counts[endpoint_id]
        if recorded.counted_all:
            self._counts.clear()
            self._counted_at = now


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written.

    Args:
        states: the new state of each delivery whose result was accepted.
        resting: endpoints that are to be left alone at the moment.
        disabling: endpoints that have failed for so long that they are to be disabled.
        counted: endpoints whose successes are counted.
        counted_all: whether nothing is left to be counted.
    """

    states: Mapping[int, DeliveryState]
    resting: frozenset[UUID]
    disabling: frozenset[UUID]
    counted: frozenset[UUID]
    counted_all: bool


def record(
    session: database.Session,
    verdicts: Sequence[Verdict],
    *,
    tally: Mapping[UUID, int],
    count_all: bool,
    now: dt.datetime,
) -> Recorded:
    """Write verdicts back, in the order in which the attempts ended.

    Args:
        tally: successes before these that have not been counted.
        count_all: count them all, not only those of endpoints that have more to be written.
    """
    # An endpoint that is well and answered well is not locked: its row is not fought for.
    concerned = {one.endpoint_id for one in verdicts if not one.succeeded or one.claimed.unwell}
    if count_all:
        concerned |= {one.endpoint_id for one in verdicts} | tally.keys()
    known = endpoint_health.lock(session, concerned)
    states = delivery.record(session, [one.result for one in verdicts], now=now)
    after = _judged(session, known, verdicts, tally, now)
    _tell_of_the_dead(session, verdicts, states, now)
    return Recorded(
        states=states,
        resting=frozenset(key for key, new in after.items() if outcomes.rests(new, now=now)),
        disabling=_to_disable(after, known, now),
        counted=frozenset(known),
        counted_all=count_all,
    )


def review(session: database.Session, *, now: dt.datetime) -> frozenset[UUID]:
    """Judge endpoints again that have failed for a day or more, and tell what is due.

    Returns:
        Those that are to be disabled.
    """
    known = endpoint_health.lock_due_for_review(session, most=REVIEWED_AT_ONCE, now=now)
    after = _judged(session, known, (), {}, now)
    return _to_disable(after, known, now)


def must_disable(session: database.Session, endpoint_id: UUID, *, now: dt.datetime) -> bool:
    """Tell whether a locked endpoint has failed for so long that it is to be disabled."""
    found = endpoint_health.find(session, [endpoint_id])
    known = Condition.from_dict(found[endpoint_id].condition)
    return health.should_disable(known.trouble, now=now)


def _judged(
    session: database.Session,
    known: Mapping[UUID, Locked],
    verdicts: Sequence[Verdict],
    tally: Mapping[UUID, int],
    now: dt.datetime,
) -> dict[UUID, Health]:
    """Return the health of locked endpoints after verdicts, stored and told."""
    by_endpoint: dict[UUID, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_endpoint[verdict.endpoint_id].append(verdict)
    after = {}
    for key, locked in known.items():
        judged = outcomes.health_after(
            locked.health, by_endpoint[key], successes=tally.get(key, 0), now=now
        )
        after[key] = _told(session, locked, judged, now)
    changed = {key: new for key, new in after.items() if new != known[key].health}
    endpoint_health.keep(session, changed)
    return after


def _told(session: database.Session, locked: Locked, judged: Health, now: dt.datetime) -> Health:
    if judged.review_at is None:
        return judged  # it is well: there is nothing to tell
    condition = Condition.from_dict(judged.condition)
    due = [one for one in health.notices_due(condition, now=now) if one is not Notice.DISABLED]
    if not due or locked.state is not EndpointState.enabled:
        return judged
    for notice in due:
        delivery_notices.endpoint_failing(
            session, locked, notice=notice, condition=condition, now=now
        )
    told = health.tell(condition, due, now=now)
    return outcomes.kept(told, hold_until=judged.hold_until, single=judged.single, now=now)


def _tell_of_the_dead(
    session: database.Session,
    verdicts: Sequence[Verdict],
    states: Mapping[int, DeliveryState],
    now: dt.datetime,
) -> None:
    for verdict in verdicts:
        attempt = verdict.result.attempt
        is_dead = states.get(verdict.result.delivery_id) is DeliveryState.dead
        if is_dead and attempt is not None:
            delivery_notices.delivery_dead(
                session,
                verdict.claimed,
                outcome=attempt.outcome,
                status=attempt.status,
                now=now,
            )


def _to_disable(
    after: Mapping[UUID, Health], known: Mapping[UUID, Locked], now: dt.datetime
) -> frozenset[UUID]:
    return frozenset(
        key
        for key, new in after.items()
        if new.review_at is not None
        and known[key].state is EndpointState.enabled
        and health.should_disable(Condition.from_dict(new.condition).trouble, now=now)
    )

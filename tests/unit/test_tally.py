"""Successes that are not counted yet: how long they wait, and when they say nothing any more."""

import datetime as dt
from uuid import UUID, uuid4

from models.rules.states import DeliveryState
from models.store import delivery
from tasks import outcomes, recording
from tests.unit.test_outcomes import claimed

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
BUSY, OTHER = uuid4(), uuid4()


def succeeded(endpoint_id: UUID) -> outcomes.Verdict:
    one = claimed()._replace(endpoint_id=endpoint_id)
    result = delivery.Result(1, endpoint_id, one.lease_token, DeliveryState.delivered, spent=True)
    return outcomes.Verdict(result, one, succeeded=True)


def recorded(*counted: UUID, all_of_them: bool = False) -> recording.Recorded:
    nothing: frozenset[UUID] = frozenset()
    return recording.Recorded({}, nothing, nothing, frozenset(counted), all_of_them)


def test_successes_wait_until_they_are_counted() -> None:
    tally = recording.Tally()
    tally.settle([succeeded(BUSY), succeeded(OTHER), succeeded(BUSY)], recorded(), NOW)
    assert tally.waiting(NOW) == {BUSY: 2, OTHER: 1}

    tally.settle([succeeded(BUSY)], recorded(BUSY), NOW)
    assert tally.waiting(NOW) == {OTHER: 1}
    tally.settle([], recorded(all_of_them=True), NOW)
    assert tally.waiting(NOW) == {}


def test_all_are_counted_once_a_second_whichever_way_the_clock_went() -> None:
    tally = recording.Tally()
    assert tally.is_due(NOW)
    tally.settle([], recorded(all_of_them=True), NOW)

    assert not tally.is_due(NOW + SECOND / 2)
    assert tally.is_due(NOW + SECOND)
    assert tally.is_due(NOW - SECOND)


def test_what_is_older_than_the_circuits_five_minutes_says_nothing() -> None:
    tally = recording.Tally()
    tally.settle([], recorded(all_of_them=True), NOW)
    tally.settle([succeeded(BUSY)], recorded(), NOW)

    assert tally.waiting(NOW + 299 * SECOND) == {BUSY: 1}
    assert tally.waiting(NOW + 300 * SECOND) == {}

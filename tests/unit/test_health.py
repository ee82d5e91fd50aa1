"""The circuit of an endpoint, its disable rule and what is told of it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webhooks import health
from webhooks.endpoint_condition import Circuit, Condition, Notice, Trouble

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
MOST = 5

STORY = st.text("sf", min_size=1, max_size=60)


def play(
    results: str,
    *,
    step: timedelta = SECOND,
    condition: Condition | None = None,
    start: datetime = NOW,
) -> Condition:
    """Tell a story of successes (``s``) and failures (``f``), `step` apart, from `start` on."""
    condition = condition or Condition()
    for place, result in enumerate(results):
        condition = end_one(condition, result, start + place * step, event=f"evt_{place}")
    return condition


def end_one(condition: Condition, result: str, now: datetime, *, event: str = "evt") -> Condition:
    if result == "s":
        return health.succeed(condition, now=now)
    return health.fail(condition, event=event, now=now)


def circuit_of(results: str, *, step: timedelta = SECOND) -> Circuit:
    return play(results, step=step).circuit


def probe_at(condition: Condition) -> datetime:
    assert condition.circuit.probe_at is not None
    return condition.circuit.probe_at


def test_fifth_failure_in_a_row_opens() -> None:
    assert not circuit_of("ffff").is_open
    assert circuit_of("fffff").is_open
    assert not circuit_of("ffffsffff").is_open


def test_consecutive_failures_open_however_far_apart() -> None:
    assert circuit_of("fffff", step=timedelta(days=1)).is_open


@pytest.mark.parametrize(
    ("story", "opens"),
    [
        ("fffsffsff", False),  # 7 of 9: too few to say
        ("fffsffsffs", True),  # 7 of 10
        ("ffssffsffs", False),  # 6 of 10
        ("sssfffsfffsfff", False),  # 9 of 14
    ],
)
def test_seventy_percent_of_at_least_ten_opens(story: str, opens: bool) -> None:
    assert circuit_of(story).is_open is opens


def test_attempts_older_than_five_minutes_do_not_count() -> None:
    assert circuit_of("fffsffsffs", step=timedelta(seconds=20)).is_open
    assert not circuit_of("fffsffsffs", step=timedelta(seconds=60)).is_open
    nine = play("fffsffsff", step=timedelta(0))
    assert end_one(nine, "s", NOW + timedelta(seconds=299)).circuit.is_open
    assert not end_one(nine, "s", NOW + timedelta(minutes=5)).circuit.is_open


def test_attempts_of_a_clock_that_was_far_ahead_do_not_count_for_ever() -> None:
    ahead = play("fffsffsff", start=NOW + timedelta(days=365))

    assert not end_one(ahead, "s", NOW).circuit.is_open


@given(story=STORY)
def test_circuit_opens_exactly_when_the_rule_says_so(story: str) -> None:
    condition = Condition()
    for place, result in enumerate(story):
        condition = end_one(condition, result, NOW + place * SECOND)
        so_far = story[: place + 1]
        many = len(so_far) >= 10 and so_far.count("f") * 10 >= len(so_far) * 7
        assert condition.circuit.is_open is (so_far.endswith("fffff") or many)
        if condition.circuit.is_open:
            break


@given(
    stretches=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 4)).filter(any), min_size=1, max_size=6
    )
)
def test_successes_counted_together_count_as_much_as_one_by_one(
    stretches: Sequence[tuple[int, int]],
) -> None:
    """Successes, then failures, ten seconds later the next; never five failures in a row."""
    together = one_by_one = Condition()
    for place, (successes, failures) in enumerate(stretches):
        now = NOW + place * 10 * SECOND
        if successes:
            together = health.succeed(together, times=successes, now=now)
        for _ in range(successes):
            one_by_one = health.succeed(one_by_one, now=now)
        for _ in range(failures):
            together = health.fail(together, event="evt", now=now)
            one_by_one = health.fail(one_by_one, event="evt", now=now)
        if together.circuit.is_open or one_by_one.circuit.is_open:
            break  # a success among many may be the tenth attempt, and open; the next one closes
        assert together == one_by_one


def test_a_closed_circuit_has_all_lanes_an_open_one_none_and_then_one() -> None:
    condition = play("fffff")
    opened = NOW + 4 * SECOND

    assert health.lanes(Circuit(), most=MOST, now=NOW) == MOST
    assert probe_at(condition) == opened + 30 * SECOND
    before, after = probe_at(condition) - SECOND, probe_at(condition)
    assert health.lanes(condition.circuit, most=MOST, now=before) == 0
    assert health.lanes(condition.circuit, most=MOST, now=after) == 1


def test_failed_probes_double_the_wait_up_to_ten_minutes() -> None:
    condition, waits = play("fffff"), []
    for _ in range(7):
        now = probe_at(condition)
        condition = health.fail(condition, event="evt", now=now)
        waits.append(int((probe_at(condition) - now).total_seconds()))
    assert waits == [60, 120, 240, 480, 600, 600, 600]
    assert condition.circuit.consecutive_failures == 12


def test_failures_under_way_when_it_opened_do_not_lengthen_the_wait() -> None:
    condition = play("fffff")

    later = health.fail(condition, event="evt", now=NOW + 9 * SECOND)

    assert later.circuit == condition.circuit
    assert later.trouble.failures == 6


@pytest.mark.parametrize("seconds", [1, 60])
def test_any_success_closes_and_forgets(seconds: int) -> None:
    condition = health.succeed(play("fffff"), now=NOW + seconds * SECOND)

    assert condition == Condition()
    assert health.lanes(condition.circuit, most=MOST, now=NOW) == MOST


@example(story="f" * 8, seconds=90, told=set())  # a probe failed
@given(story=STORY, seconds=st.integers(1, 90), told=st.sets(st.sampled_from(Notice)))
def test_condition_survives_json_and_stays_small(
    story: str, seconds: int, told: set[Notice]
) -> None:
    condition = health.tell(play(story, step=seconds * SECOND), told, now=NOW)

    assert Condition.from_dict(json.loads(json.dumps(condition.to_dict()))) == condition
    assert len(condition.circuit.window) <= health.BUCKETS
    assert len(condition.trouble.events) <= health.DISABLE_EVENTS


def test_a_fresh_condition_is_an_empty_mapping() -> None:
    assert Condition().to_dict() == {}
    assert Condition.from_dict({}) == Condition()


@given(story=STORY)
def test_trouble_begins_with_a_failure_and_ends_with_a_success(story: str) -> None:
    trouble = play(story).trouble
    failing = len(story) - len(story.rstrip("f"))

    assert trouble.failures == failing
    assert len(trouble.events) == min(failing, health.DISABLE_EVENTS)
    first = NOW + (len(story) - failing) * SECOND
    assert trouble.began_at == (first if failing else None)


@pytest.mark.parametrize(
    ("days", "failures", "events", "disabled"),
    [
        (5, 20, 2, True),
        (4.99, 1000, 2, False),
        (5, 19, 2, False),
        (5, 20, 1, False),
        (None, 20, 2, False),
    ],
)
def test_endpoint_is_disabled_after_five_days_twenty_failures_two_events(
    days: float | None, failures: int, events: int, disabled: bool
) -> None:
    began_at = None if days is None else NOW - timedelta(days=days)
    trouble = Trouble(began_at, failures, tuple(f"evt_{number}" for number in range(events)))

    assert health.should_disable(trouble, now=NOW) is disabled
    due = health.notices_due(Condition(trouble=trouble), now=NOW)
    assert (Notice.DISABLED in due) is disabled


def test_an_endpoint_that_fails_with_one_event_alone_is_never_disabled() -> None:
    condition = Condition()
    for hour in range(24 * 7):
        condition = health.fail(condition, event="evt", now=NOW + hour * HOUR)

    assert not health.should_disable(condition.trouble, now=NOW + timedelta(days=7))


def test_a_success_every_tenth_try_never_disables() -> None:
    condition = Condition()
    for day in range(30):
        condition = play(
            "fffffffffs" * 3, condition=condition, start=NOW + timedelta(days=day), step=HOUR / 2
        )
        assert Notice.DISABLED not in health.notices_due(
            condition, now=NOW + timedelta(days=day, hours=23)
        )


def test_owner_is_told_once_at_opening_a_day_three_days_and_disabling() -> None:
    condition, told = Condition(), []
    for hour in range(24 * 7):
        now = NOW + hour * HOUR
        condition = health.fail(condition, event=f"evt_{hour}", now=now)
        due = health.notices_due(condition, now=now)
        condition = health.tell(condition, due, now=now)
        told += [(hour, notice) for notice in due]

    assert told == [
        (4, Notice.OPENED),
        (24, Notice.FAILING_24H),
        (72, Notice.FAILING_72H),
        (120, Notice.DISABLED),
    ]


def test_an_endpoint_that_comes_and_goes_is_told_of_once_a_day() -> None:
    condition, told = Condition(), []
    for minute in range(3 * 24 * 60):
        now = NOW + timedelta(minutes=minute)
        condition = end_one(condition, "s" if minute % 10 == 0 else "f", now)
        due = health.notices_due(condition, now=now)
        condition = health.tell(condition, due, now=now)
        told += [(minute, notice) for notice in due]

    day = 24 * 60
    assert told == [(opened, Notice.OPENED) for opened in (5, day + 5, 2 * day + 5)]


def test_healthy_endpoint_gets_no_notice_and_no_review() -> None:
    assert health.notices_due(play("sss"), now=NOW) == ()
    assert health.review_at(play("ffs"), now=NOW) is None


def test_a_failing_endpoint_is_reviewed_when_the_next_notice_falls_due() -> None:
    condition, now, reviews = play("f"), NOW, []
    for _ in range(4):
        at = health.review_at(condition, now=now)
        assert at is not None
        now = at
        reviews.append((now - NOW) / HOUR)
        condition = health.tell(condition, health.notices_due(condition, now=now), now=now)

    # After five days it is looked at every hour: it may yet fail often enough.
    assert reviews == [24, 72, 120, 121]

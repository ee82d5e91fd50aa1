"""The circuit of an endpoint, its disable rule and its notices."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks import health
from webhooks.health import Admission, Circuit, Notice

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def play(results: str, *, step: timedelta = SECOND, circuit: Circuit | None = None) -> Circuit:
    """Record a story of successes (``s``) and failures (``f``), `step` apart, from NOW on."""
    circuit = circuit or Circuit()
    for place, result in enumerate(results):
        circuit = health.record(circuit, succeeded=result == "s", now=NOW + place * step)
    return circuit


def test_fifth_failure_in_a_row_opens() -> None:
    assert not play("ffff").is_open
    assert play("fffff").is_open
    assert not play("ffffsffff").is_open


def test_consecutive_failures_open_however_far_apart() -> None:
    assert play("fffff", step=timedelta(days=1)).is_open


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
    assert play(story).is_open is opens


def test_attempts_older_than_five_minutes_do_not_count() -> None:
    assert play("fffsffsffs", step=timedelta(seconds=20)).is_open
    assert not play("fffsffsffs", step=timedelta(seconds=60)).is_open


@given(story=st.text("sf", min_size=1, max_size=60))
def test_circuit_opens_exactly_when_the_rule_says_so(story: str) -> None:
    circuit = Circuit()
    for place, result in enumerate(story):
        circuit = health.record(circuit, succeeded=result == "s", now=NOW + place * SECOND)
        so_far = story[: place + 1]
        many = len(so_far) >= 10 and so_far.count("f") * 10 >= len(so_far) * 7
        assert circuit.is_open is (so_far.endswith("fffff") or many)
        if circuit.is_open:
            break


def test_open_circuit_defers_then_lets_exactly_one_probe_through() -> None:
    circuit = play("fffff")
    assert circuit.probe_at is not None
    early, same = health.admit(circuit, now=circuit.probe_at - SECOND)
    assert (early, same) == (Admission.DEFER, circuit)
    first, circuit = health.admit(circuit, now=circuit.probe_at)
    second, circuit = health.admit(circuit, now=NOW + timedelta(seconds=40))
    assert (first, second) == (Admission.PROBE, Admission.DEFER)


def test_failed_probes_double_the_wait_up_to_ten_minutes() -> None:
    circuit, waits = play("fffff"), []
    for _ in range(7):
        assert circuit.probe_at is not None
        now = circuit.probe_at
        admission, circuit = health.admit(circuit, now=now)
        assert admission is Admission.PROBE
        circuit = health.record(circuit, succeeded=False, now=now)
        assert circuit.probe_at is not None
        waits.append(int((circuit.probe_at - now).total_seconds()))
    assert waits == [60, 120, 240, 480, 600, 600, 600]


def test_first_probe_goes_after_thirty_seconds() -> None:
    circuit = play("fffff")
    assert circuit.opened_at is not None
    assert circuit.probe_at == circuit.opened_at + timedelta(seconds=30)


def test_failures_under_way_when_it_opened_do_not_lengthen_the_wait() -> None:
    circuit = play("fffff")
    assert health.record(circuit, succeeded=False, now=NOW + 9 * SECOND) == circuit


def test_a_lost_probe_is_followed_by_another_after_its_lease() -> None:
    circuit = play("fffff")
    assert circuit.probe_at is not None
    _, circuit = health.admit(circuit, now=circuit.probe_at)
    assert circuit.probe_at is not None
    admission, _ = health.admit(circuit, now=circuit.probe_at)
    assert admission is Admission.PROBE


@pytest.mark.parametrize("probed", [True, False])
def test_any_success_closes_and_forgets(probed: bool) -> None:
    circuit = play("fffff")
    if probed:
        _, circuit = health.admit(circuit, now=NOW + timedelta(minutes=1))
    circuit = health.record(circuit, succeeded=True, now=NOW + timedelta(minutes=1))
    assert circuit == Circuit()
    assert health.admit(circuit, now=NOW)[0] is Admission.SEND


@given(story=st.text("sf", max_size=30), seconds=st.integers(1, 90))
def test_state_survives_json_and_stays_small(story: str, seconds: int) -> None:
    circuit = play(story, step=timedelta(seconds=seconds))
    assert Circuit.from_dict(json.loads(json.dumps(circuit.to_dict()))) == circuit
    assert len(circuit.window) <= health.BUCKETS


def test_empty_state_is_a_fresh_circuit() -> None:
    assert Circuit.from_dict({}) == Circuit()


@pytest.mark.parametrize(
    ("days", "failures", "events", "disabled"),
    [
        (5, 20, 2, True),
        (4.99, 1000, 100, False),
        (5, 19, 2, False),
        (5, 20, 1, False),
        (None, 20, 2, False),
    ],
)
def test_endpoint_is_disabled_after_five_days_twenty_failures_two_events(
    days: float | None, failures: int, events: int, disabled: bool
) -> None:
    since = None if days is None else NOW - timedelta(days=days)
    verdict = health.should_disable(failing_since=since, failures=failures, events=events, now=NOW)
    assert verdict is disabled


@pytest.mark.parametrize(
    ("hours", "disabled", "sent", "due"),
    [
        (0, False, [], [Notice.OPENED]),
        (1, False, [Notice.OPENED], []),
        (24, False, [Notice.OPENED], [Notice.FAILING_24H]),
        (80, False, [Notice.OPENED], [Notice.FAILING_24H, Notice.FAILING_72H]),
        (120, True, [Notice.OPENED, Notice.FAILING_24H, Notice.FAILING_72H], [Notice.DISABLED]),
    ],
)
def test_owner_is_told_once_at_opening_a_day_three_days_and_disabling(
    hours: int, disabled: bool, sent: list[Notice], due: list[Notice]
) -> None:
    since = NOW - timedelta(hours=hours)
    told = health.notices_due(
        opened=True, failing_since=since, disabled=disabled, sent=sent, now=NOW
    )
    assert list(told) == due


def test_healthy_endpoint_gets_no_notice() -> None:
    told = health.notices_due(opened=False, failing_since=None, disabled=False, sent=(), now=NOW)
    assert told == ()

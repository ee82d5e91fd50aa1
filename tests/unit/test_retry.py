"""The retry policy: its numbers, and what holds for every input."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks import retry
from webhooks.retry import Outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RANDOMS = st.floats(min_value=0, max_value=1, exclude_max=True)
WAITS = st.none() | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=40))
RETRIED = sorted(Outcome.failures() - {Outcome.GONE})


def test_schedule_is_nine_waits_of_75_hours_and_35_minutes() -> None:
    waits = [retry.next_delay(number, retry_after=None, random=0) for number in range(1, 11)]
    assert waits == [*retry.SCHEDULE, None]
    assert sum(retry.SCHEDULE, timedelta(0)) == timedelta(hours=75, minutes=35, seconds=5)
    assert retry.SCHEDULE[0] == timedelta(seconds=5)
    assert retry.SCHEDULE[-1] == timedelta(hours=24)


@given(number=st.integers(1, 9), retry_after=WAITS, random=RANDOMS)
def test_wait_is_never_shorter_than_step_or_wish_and_at_most_a_fifth_longer(
    number: int, retry_after: timedelta | None, random: float
) -> None:
    wait = retry.next_delay(number, retry_after=retry_after, random=random)
    assert wait is not None
    wish = min(retry_after or timedelta(0), timedelta(hours=24))
    floor = max(retry.SCHEDULE[number - 1], wish)
    assert floor <= wait <= floor * 1.2


@given(number=st.integers(10, 1000), retry_after=WAITS, random=RANDOMS)
def test_after_ten_attempts_there_is_no_other(
    number: int, retry_after: timedelta | None, random: float
) -> None:
    assert retry.next_delay(number, retry_after=retry_after, random=random) is None


@pytest.mark.parametrize(("number", "random"), [(0, 0.5), (-1, 0.5), (1, 1.0), (1, -0.1)])
def test_nonsense_arguments_are_refused(number: int, random: float) -> None:
    with pytest.raises(ValueError, match="is not"):
        retry.next_delay(number, retry_after=None, random=random)


@given(outcome=st.sampled_from(RETRIED), number=st.integers(1, 20), wish=WAITS, random=RANDOMS)
def test_each_failure_is_retried_until_the_attempts_are_spent(
    outcome: Outcome, number: int, wish: timedelta | None, random: float
) -> None:
    hold = None if wish is None else min(wish, timedelta(hours=24))
    decision = retry.decide(outcome, attempt_number=number, retry_after=wish, random=random)
    delay = retry.next_delay(number, retry_after=wish, random=random)
    assert decision == (retry.Dead(hold) if delay is None else retry.Retry(delay, hold))


@pytest.mark.parametrize(
    ("outcome", "decision"),
    [
        (Outcome.DELIVERED, retry.Success()),
        (Outcome.GONE, retry.Disable()),
        (Outcome.ADDRESS_REFUSED, retry.Blocked(timedelta(hours=1))),
        (Outcome.MISCONFIGURED, retry.Blocked(timedelta(hours=1))),
    ],
)
@pytest.mark.parametrize("number", [1, 10])
def test_outcomes_that_need_no_retry_are_decided_at_once(
    outcome: Outcome, decision: retry.Decision, number: int
) -> None:
    wish = timedelta(seconds=9)
    assert retry.decide(outcome, attempt_number=number, retry_after=wish, random=0) == decision


def test_every_outcome_is_success_failure_or_unsent_and_only_one_of_them() -> None:
    assert Outcome.failures() | Outcome.unsent() | {Outcome.DELIVERED} == set(Outcome)
    assert not Outcome.failures() & Outcome.unsent()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (299, Outcome.DELIVERED),
        (199, Outcome.HTTP_ERROR),
        (304, Outcome.HTTP_ERROR),
        (404, Outcome.HTTP_ERROR),
        (410, Outcome.GONE),
        (500, Outcome.HTTP_ERROR),
        (600, Outcome.HTTP_ERROR),
    ],
)
def test_only_2xx_is_success_and_only_410_is_gone(status: int, outcome: Outcome) -> None:
    assert retry.classify(status) is outcome


IN_AN_HOUR = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("3600", timedelta(hours=1)),
        (" 3600 ", timedelta(hours=1)),
        ("0003600", timedelta(hours=1)),
        (format_datetime(IN_AN_HOUR, usegmt=True), timedelta(hours=1)),
        ("Sunday, 01-Mar-26 13:00:00 GMT", timedelta(hours=1)),
        ("Sun Mar  1 13:00:00 2026", timedelta(hours=1)),
        ("1000000000", timedelta(hours=24)),
        ("9" * 4000, timedelta(hours=24)),
        ("86401", timedelta(hours=24)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", timedelta(hours=24)),
    ],
)
def test_retry_after_is_honoured_up_to_a_day(value: str, wait: timedelta) -> None:
    assert retry.parse_retry_after(value, now=NOW) == wait


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "0",
        "-5",
        "1e9",
        "3.5",
        "soon",
        "٣٦٠٠",
        "0x10",
        "3600, 3600",
        "3600, 7200",
        format_datetime(NOW - timedelta(hours=1), usegmt=True),
        format_datetime(IN_AN_HOUR, usegmt=True) + ", " + format_datetime(IN_AN_HOUR, usegmt=True),
        format_datetime(IN_AN_HOUR),
        "Sun, 99 Mar 2026 13:00:00 GMT",
        "Sun, 01 Abc 2026 13:00:00 GMT",
        "2026-03-01T13:00:00Z",
        "9" * 5000,
    ],
)
def test_junk_past_and_repeated_retry_after_is_ignored(value: str | None) -> None:
    assert retry.parse_retry_after(value, now=NOW) is None


@given(value=st.text(max_size=40) | st.from_regex(retry._HTTP_DATE, fullmatch=True))
def test_no_retry_after_ever_raises_or_leaves_the_limits(value: str) -> None:
    wait = retry.parse_retry_after(value, now=NOW)
    assert wait is None or timedelta(0) < wait <= timedelta(hours=24)

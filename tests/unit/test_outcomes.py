"""What an attempt means for its delivery, and for its endpoint's circuit."""

import datetime as dt
from uuid import uuid4

import pytest

from models.rules.states import DeliveryState
from models.store.claim import Claimed
from models.store.endpoint import Health
from tasks import outcomes
from webhooks import retry
from webhooks.retry import Outcome
from webhooks.transport import Attempt

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
SOON = NOW + dt.timedelta(seconds=20)


def claimed(attempt_count: int = 0) -> Claimed:
    return Claimed(
        delivery_id=1,
        lease_token=uuid4(),
        leased_until=NOW,
        attempt_count=attempt_count,
        message_id=uuid4(),
        type="billing.ping",
        schema_version=1,
        body=b"{}",
        endpoint_id=uuid4(),
        url="https://example.com/",
        headers={"Authorization": "hush"},
        sealed=(b"sealed",),
    )


def verdict(
    outcome: Outcome,
    *,
    attempt_count: int = 0,
    retry_after: dt.timedelta | None = None,
    excerpt: str = "",
) -> outcomes.Verdict:
    attempt = Attempt(outcome, 500, 12, excerpt, retry_after, None)
    return outcomes.of_attempt(claimed(attempt_count), attempt, began=NOW, now=NOW, random=0.0)


@pytest.mark.parametrize(
    ("outcome", "attempt_count", "state", "spent"),
    [
        (Outcome.DELIVERED, 0, DeliveryState.delivered, True),
        (Outcome.DELIVERED, 9, DeliveryState.delivered, True),
        (Outcome.HTTP_ERROR, 0, DeliveryState.pending, True),
        (Outcome.TIMEOUT, 8, DeliveryState.pending, True),
        (Outcome.TIMEOUT, 9, DeliveryState.dead, True),
        (Outcome.GONE, 0, DeliveryState.pending, True),
        (Outcome.ADDRESS_REFUSED, 9, DeliveryState.pending, False),
        (Outcome.MISCONFIGURED, 0, DeliveryState.pending, False),
    ],
)
def test_each_outcome_leads_to_its_state(
    outcome: Outcome, attempt_count: int, state: DeliveryState, spent: bool
) -> None:
    result = verdict(outcome, attempt_count=attempt_count).result

    assert (result.state, result.spent) == (state, spent)
    assert result.attempt is not None
    assert result.attempt.number == attempt_count + 1


def test_a_retry_is_due_after_its_step_of_the_schedule() -> None:
    for attempt_count, step in enumerate(retry.SCHEDULE):
        due_at = verdict(Outcome.HTTP_ERROR, attempt_count=attempt_count).result.due_at
        assert due_at == NOW + step


def test_retry_after_holds_the_endpoint_also_when_the_delivery_is_dead() -> None:
    hour = dt.timedelta(hours=1)
    for attempt_count in (0, 9):
        held = verdict(Outcome.HTTP_ERROR, attempt_count=attempt_count, retry_after=hour)
        assert held.hold_until == NOW + hour


def test_only_what_is_gone_disables() -> None:
    assert [one for one in Outcome if verdict(one).disables] == [Outcome.GONE]


def test_an_answer_is_kept_short_and_only_when_it_is_a_refusal() -> None:
    kept = verdict(Outcome.HTTP_ERROR, excerpt="x" * 9_000).result.attempt
    fine = verdict(Outcome.DELIVERED, excerpt="ok").result.attempt

    assert kept is not None
    assert kept.excerpt == "x" * outcomes.EXCERPT_LENGTH
    assert fine is not None
    assert fine.excerpt is None


def test_a_claimed_delivery_shows_nothing_private() -> None:
    shown = repr(claimed())

    for private in ("sealed", "hush", "{}", "example.com"):
        assert private not in shown


def after(before: Health, *verdicts: outcomes.Verdict, now: dt.datetime = NOW) -> Health:
    return outcomes.health_after(before, verdicts, now=now)


FAILED = verdict(Outcome.HTTP_ERROR)
FINE = verdict(Outcome.DELIVERED)
WELL = Health(0, None)


def test_five_failures_in_a_row_open_the_circuit_for_thirty_seconds() -> None:
    four = after(WELL, *[FAILED] * 4)

    assert four == Health(4, None)
    assert after(four, FAILED) == Health(5, NOW + dt.timedelta(seconds=30))
    assert after(WELL, *[FAILED] * 9) == Health(5, NOW + dt.timedelta(seconds=30))


def test_each_failed_probe_doubles_the_wait_up_to_ten_minutes() -> None:
    known, now, waits = after(WELL, *[FAILED] * 5), NOW, []
    for _ in range(7):
        assert known.hold_until is not None
        waits.append((known.hold_until - now).total_seconds())
        now = known.hold_until
        known = after(known, FAILED, now=now)

    assert waits == [30, 60, 120, 240, 480, 600, 600]


def test_failures_under_way_when_the_circuit_opened_change_nothing() -> None:
    opened = after(WELL, *[FAILED] * 5)

    assert after(opened, FAILED, FAILED, now=SOON) == opened


def test_any_success_closes_the_circuit() -> None:
    opened = after(WELL, *[FAILED] * 5)

    assert after(opened, FINE, now=SOON) == WELL
    assert after(Health(3, None), FAILED, FINE) == WELL


def test_a_hold_the_endpoint_asked_for_outlives_a_success() -> None:
    asked = verdict(Outcome.HTTP_ERROR, retry_after=dt.timedelta(hours=1))

    held = after(WELL, asked)

    assert held == Health(1, NOW + dt.timedelta(hours=1))
    assert after(held, FINE, now=SOON) == Health(0, NOW + dt.timedelta(hours=1))


def test_what_was_never_sent_says_nothing_about_the_endpoint() -> None:
    back = outcomes.given_back(claimed())

    assert after(Health(2, SOON), back) == Health(2, SOON)
    refused = after(Health(2, None), verdict(Outcome.ADDRESS_REFUSED))
    assert refused == Health(2, NOW + dt.timedelta(hours=1))

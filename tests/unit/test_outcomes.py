"""What an attempt means for its delivery, and for its endpoint's circuit."""

import datetime as dt
from uuid import uuid4

import pytest

from models.rules.states import DeliveryState
from models.store.claim import Claimed
from models.store.endpoint_health import Health
from tasks import outcomes
from webhooks import retry
from webhooks.retry import Outcome
from webhooks.transport import Attempt

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
SOON = NOW + dt.timedelta(seconds=20)


def claimed(attempt_count: int = 0, *, ordered: bool = False) -> Claimed:
    return Claimed(
        delivery_id=1,
        lease_token=uuid4(),
        attempt_count=attempt_count,
        message_id=uuid4(),
        type="billing.ping",
        tenant_id="acme",
        correlation_id="request-1",
        traceparent=None,
        schema_version=1,
        body=b"{}",
        endpoint_id=uuid4(),
        owner="acme",
        ordered=ordered,
        unwell=False,
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
    ordered: bool = False,
) -> outcomes.Verdict:
    attempt = Attempt(outcome, 500, 12, excerpt, retry_after, None)
    one = claimed(attempt_count, ordered=ordered)
    return outcomes.of_attempt(one, attempt, began=NOW, now=NOW, random=0.0)


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


@pytest.mark.parametrize(
    ("outcome", "topic", "kept"),
    [
        (Outcome.HTTP_ERROR, "billing.quota_consumed", "x" * 16_384),
        (Outcome.DELIVERED, "billing.quota_consumed", None),
        (Outcome.DELIVERED, "billing.ping", "x" * 16_384),
    ],
)
def test_an_answer_is_kept_when_it_is_a_refusal_or_that_to_a_ping(
    outcome: Outcome, topic: str, kept: str | None
) -> None:
    said = Attempt(outcome, 200, 12, "x" * 16_384, None, None)
    one = claimed()._replace(type=topic)

    attempt = outcomes.of_attempt(one, said, began=NOW, now=NOW, random=0.0).result.attempt

    assert attempt is not None
    assert attempt.excerpt == kept


def test_a_claimed_delivery_shows_nothing_private() -> None:
    shown = repr(claimed())

    for private in ("sealed", "hush", "{}", "example.com"):
        assert private not in shown


def test_an_ordered_endpoint_waits_itself_for_what_failed_and_gives_nothing_up() -> None:
    day = dt.timedelta(days=1)
    for attempt_count, step in enumerate([*retry.SCHEDULE, day, day]):
        failed = verdict(Outcome.HTTP_ERROR, attempt_count=attempt_count, ordered=True)

        assert (failed.result.state, failed.result.due_at) == (DeliveryState.pending, None)
        assert failed.hold_until == NOW + step


def test_an_ordered_endpoint_waits_as_long_as_it_asks_for() -> None:
    asked = verdict(Outcome.HTTP_ERROR, retry_after=dt.timedelta(hours=1), ordered=True)

    assert asked.hold_until == NOW + dt.timedelta(hours=1)
    assert verdict(Outcome.DELIVERED, ordered=True).hold_until is None


def after(
    before: Health, *verdicts: outcomes.Verdict, successes: int = 0, now: dt.datetime = NOW
) -> Health:
    return outcomes.health_after(before, verdicts, successes=successes, now=now)


FAILED = verdict(Outcome.HTTP_ERROR)
FINE = verdict(Outcome.DELIVERED)
WELL = Health()


def test_five_failures_in_a_row_open_the_circuit_for_thirty_seconds() -> None:
    four = after(WELL, *[FAILED] * 4)

    assert four.probe_at is None
    assert after(four, FAILED).probe_at == NOW + dt.timedelta(seconds=30)
    assert after(WELL, *[FAILED] * 9).probe_at == NOW + dt.timedelta(seconds=30)


def test_seven_failures_of_ten_open_it_whoever_counted_the_successes() -> None:
    mixed = [FAILED, FAILED, FAILED, FINE] * 2 + [FAILED]

    assert after(WELL, *mixed).probe_at is None
    assert after(WELL, *mixed, successes=1).probe_at is not None
    assert after(WELL, *mixed, successes=20).probe_at is None


def test_what_a_claim_asks_stands_beside_the_condition() -> None:
    opened = after(WELL, *[FAILED] * 5)

    assert outcomes.rests(opened, now=NOW)
    assert not outcomes.rests(opened, now=NOW + dt.timedelta(seconds=30))
    assert opened.review_at == NOW + dt.timedelta(hours=24)
    assert after(WELL, FINE).review_at is None


def test_any_success_closes_the_circuit_and_ends_the_trouble() -> None:
    opened = after(WELL, *[FAILED] * 5)

    assert after(opened, FINE, now=SOON) == WELL
    assert after(after(WELL, *[FAILED] * 3), FINE).review_at is None


def test_a_hold_the_endpoint_asked_for_outlives_a_success() -> None:
    asked = verdict(Outcome.HTTP_ERROR, retry_after=dt.timedelta(hours=1))

    held = after(WELL, asked)

    assert held.hold_until == NOW + dt.timedelta(hours=1)
    assert after(held, FINE, now=SOON).hold_until == NOW + dt.timedelta(hours=1)


def test_what_was_never_sent_says_nothing_about_the_endpoint() -> None:
    before = after(WELL, FAILED, FAILED)

    assert after(before, outcomes.given_back(claimed())) == before
    refused = after(before, verdict(Outcome.ADDRESS_REFUSED))
    assert refused.condition == before.condition


def test_after_a_refusal_one_delivery_looks_again_an_hour_later() -> None:
    refused = after(WELL, verdict(Outcome.ADDRESS_REFUSED))

    assert refused == Health(hold_until=NOW + dt.timedelta(hours=1), single=True)
    assert not after(refused, FINE).single
    assert not after(refused, FAILED).single

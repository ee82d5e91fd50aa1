"""The life of one delivery, played with any answers, beside a model written from the contract."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from models.rules.states import DeliveryState
from models.store.endpoint_health import Health
from tasks import outcomes
from tests.unit.test_outcomes import claimed
from webhooks import health, retry
from webhooks.endpoint_condition import Condition
from webhooks.retry import Outcome
from webhooks.transport import Attempt

START = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
HOUR, DAY = 3600.0, 86_400.0
STEPS = [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]
"""Seconds, from the contract."""


@dataclass(frozen=True, slots=True)
class Said:
    """How an attempt ended, what was asked for with Retry-After, and the luck of the wait."""

    outcome: Outcome
    retry_after: float | None
    luck: float


ANSWERS = st.lists(
    st.builds(
        Said,
        outcome=st.sampled_from(sorted(Outcome)),
        retry_after=st.none() | st.floats(0, 3 * DAY),
        luck=st.floats(0, 1, exclude_max=True),
    ),
    min_size=1,
    max_size=40,
)


@dataclass(slots=True)
class Model:
    """What the contract says of a delivery and of its endpoint, told naively."""

    ordered: bool
    state: str = "pending"
    attempts: int = 0
    earliest: float = 0.0
    latest: float = 0.0
    disabled: bool = False

    def hear(self, said: Said, now: float) -> None:
        """An attempt ended at an instant, in seconds."""
        wish = min(said.retry_after or 0.0, DAY)
        match said.outcome:
            case Outcome.ADDRESS_REFUSED | Outcome.MISCONFIGURED:
                self.wait(now, HOUR, HOUR)
                return
            case Outcome.DELIVERED:
                self.state = "delivered"
            case Outcome.GONE:
                self.disabled = True
            case _ if self.attempts < 9:
                step = max(STEPS[self.attempts], wish)
                self.wait(now, step, step * 1.2)
            case _ if self.ordered:
                # It gives nothing up: a day between two tries.
                self.wait(now, max(DAY, wish), max(DAY, wish) * 1.2)
            case _:
                self.state = "dead"
        self.attempts += 1

    def wait(self, now: float, least: float, most: float) -> None:
        """Be due no sooner and no later than so."""
        self.earliest, self.latest = now + least, now + most


@given(answers=ANSWERS, ordered=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_delivery_lives_as_the_contract_says(answers: Sequence[Said], ordered: bool) -> None:
    model, now, count = Model(ordered), START, 0
    for said in answers:
        verdict = tried(said, count, ordered=ordered, now=now)
        model.hear(said, (now - START).total_seconds())
        count += verdict.result.spent

        assert (verdict.result.state, count) == (model.state, model.attempts)
        assert verdict.disables is model.disabled
        if model.disabled or verdict.result.state is not DeliveryState.pending:
            assert verdict.result.due_at is None
            return
        # An ordered endpoint waits itself; in any other the delivery does.
        due = verdict.hold_until if ordered else verdict.result.due_at
        assert due is not None
        assert model.earliest - 1 <= (due - START).total_seconds() <= model.latest + 1
        now = due
    assert ordered or count <= 10


def tried(said: Said, count: int, *, ordered: bool, now: dt.datetime) -> outcomes.Verdict:
    wish = None if said.retry_after is None else dt.timedelta(seconds=said.retry_after)
    return outcomes.of_attempt(
        claimed(count, ordered=ordered),
        Attempt(said.outcome, 500, 1, "", wish, None),
        began=now,
        now=now,
        random=said.luck,
    )


STEPS_OF_TIME = st.lists(
    st.tuples(st.sampled_from(sorted(Outcome)), st.floats(0.1, 2 * HOUR)), max_size=60
)


@given(steps=STEPS_OF_TIME)
@settings(max_examples=150, deadline=None)
def test_a_circuit_opens_exactly_when_the_contract_says(
    steps: Sequence[tuple[Outcome, float]],
) -> None:
    """Attempts one after the other, each judged by all that came before, counted naively."""
    known, now = Health(), START
    history: list[tuple[dt.datetime, bool]] = []
    for outcome, seconds in steps:
        now += dt.timedelta(seconds=seconds)
        was_open = known.probe_at is not None
        verdict = tried(Said(outcome, None, 0.0), 0, ordered=False, now=now)
        known = outcomes.health_after(known, [verdict], now=now)
        if outcome in Outcome.unsent():
            assert (known.probe_at is not None) is was_open
            continue
        history.append((now, outcome is Outcome.DELIVERED))
        if outcome is Outcome.DELIVERED:
            # Any success closes it, and the failures before it are forgotten.
            assert known.probe_at is None
            continue
        assert (known.probe_at is not None) is (was_open or must_open(history, now))
        if known.probe_at is not None:
            wait = (known.probe_at - now).total_seconds()
            assert -seconds - 600 <= wait <= 600


def must_open(history: Sequence[tuple[dt.datetime, bool]], now: dt.datetime) -> bool:
    last = [well for _, well in history[-5:]]
    recent = [well for at, well in history if now - at < health.WINDOW]
    in_a_row = len(last) == 5 and not any(last)
    return in_a_row or (len(recent) >= 10 and recent.count(False) >= 0.7 * len(recent))


def test_the_model_knows_the_schedule_by_heart() -> None:
    assert [step.total_seconds() for step in retry.SCHEDULE] == STEPS
    assert Condition.from_dict({}) == Condition()

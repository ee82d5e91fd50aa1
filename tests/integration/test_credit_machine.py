"""Everything that can be done with credit, in any order and at any time, beside a naive model."""

import os

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.integration.credit_decisions import Decisions
from tests.integration.credit_story import Storyteller

EXAMPLES = int(os.environ.get("BILLING_TEST_EXAMPLES", "8"))
STEPS = 12

SEEDS = int(os.environ.get("BILLING_TEST_SEEDS", "1"))
LONG = 100


@pytest.fixture(autouse=True)
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that stories of a few batches need more than the first look."""
    monkeypatch.setattr("models.store.credit_account.FIRST_LOOK", 2)
    monkeypatch.setattr("models.store.credit_funds.FIRST_LOOK", 2)


@pytest.mark.timeout(0)
def test_whatever_is_done_credit_comes_to_what_the_naive_model_says(db: Engine) -> None:
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
    run_state_machine_as_test(Decisions, settings=chosen)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_long_story_comes_to_what_the_naive_model_says(db: Engine, seed: int) -> None:
    Storyteller(seed).tell(LONG)

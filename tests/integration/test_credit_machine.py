"""Everything that can be done with credit, in any order and at any time, beside a naive model."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from models.rules.burndown import Policy
from tests.integration import naive_credit, wallet
from tests.integration.naive_credit import FOREVER, Account, Hold, Lot, Use

_runs = itertools.count()

EXAMPLES = int(os.environ.get("BILLING_TEST_EXAMPLES", "20"))
STEPS = 20

AMOUNTS = st.decimals(min_value="0.1", max_value=20, places=1)
DAYS = st.integers(0, 12)
"""The clock of each call: it may go back as well, as a late message's does."""

ACCOUNTS = st.sampled_from([("ada", "CALLS"), ("ada", "COINS"), ("bob", "CALLS")])

Place = tuple[str, str]


@dataclass(frozen=True)
class Terms:
    """How a batch is granted, in days."""

    priority: int
    begins_in: int | None
    lasts: int | None


TERMS = st.builds(
    Terms,
    st.integers(-1, 1),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 9),
)


class Credit(RuleBasedStateMachine):
    """Two tenants, two products. More verbs are more rules, and a method of the model each."""

    holds: Bundle[Any] = Bundle("holds")
    uses: Bundle[Any] = Bundle("uses")

    def __init__(self) -> None:
        super().__init__()
        self._run = next(_runs)
        self._steps = itertools.count(1)
        self.day = 0.0

    @initialize(policies=st.tuples(st.sampled_from(Policy), st.sampled_from(Policy)))
    def begin(self, policies: tuple[Policy, Policy]) -> None:
        by_product = dict(zip(("CALLS", "COINS"), policies, strict=True))
        for product_key, policy in by_product.items():
            wallet.product(product_key, burn_policy=policy)
        self.accounts: dict[Place, Account] = {
            place: Account(by_product[place[1]])
            for place in [("ada", "CALLS"), ("ada", "COINS"), ("bob", "CALLS")]
        }

    @rule(place=ACCOUNTS, day=DAYS, amount=AMOUNTS, terms=TERMS)
    def grant(self, place: Place, day: int, amount: Decimal, terms: Terms) -> None:
        at = self.step(day)
        begins = at + (terms.begins_in or 0)
        ends = FOREVER if terms.lasts is None else begins + terms.lasts
        answer = wallet.grant(
            amount,
            self.key(),
            day=at,
            priority=terms.priority,
            valid_from=begins if terms.begins_in else None,
            expires_at=None if terms.lasts is None else ends,
            **self.who(place),
        )
        lot = Lot(answer["batch_id"], amount, terms.priority, at, begins, ends)
        self.accounts[place].grant(lot, at)

    @rule(target=uses, place=ACCOUNTS, day=DAYS, amount=AMOUNTS)
    def consume(self, place: Place, day: int, amount: Decimal) -> Any:
        at, key = self.step(day), self.key()
        answer = wallet.consume(amount, key, day=at, **self.who(place))
        expected = self.accounts[place].consume(amount, at)
        if isinstance(expected, Decimal):
            self.assert_refused(answer, expected)
            return multiple()
        self.assert_taken(answer, expected)
        return place, {"consume_key": key}, expected

    @rule(target=uses, place=ACCOUNTS, day=DAYS, amount=AMOUNTS)
    def deduct(self, place: Place, day: int, amount: Decimal) -> Any:
        at, key = self.step(day), self.key()
        answer = wallet.deduct(amount, key, day=at, **self.who(place))
        expected = self.accounts[place].deduct(amount, at)
        self.assert_taken(answer, expected)
        return place, {"deduct_key": key}, expected

    @rule(target=holds, place=ACCOUNTS, day=DAYS, amount=AMOUNTS, days=st.integers(1, 5))
    def reserve(self, place: Place, day: int, amount: Decimal, days: int) -> Any:
        at = self.step(day)
        account = self.accounts[place]
        answer = wallet.reserve(amount, self.key(), day=at, days=days, **self.who(place))
        expected = account.reserve(amount, at, at + days)
        if isinstance(expected, Decimal):
            self.assert_refused(answer, expected)
            return multiple()
        assert Decimal(answer["available"]) == account.available(at)
        return place, answer["reservation_id"], expected

    @rule(
        target=uses,
        hold=holds,
        day=DAYS,
        actual=st.none() | st.decimals(min_value=0, max_value=30, places=1),
        above=st.sampled_from(["refuse", "take_available", "overdraft"]),
    )
    def commit(
        self, hold: tuple[Place, str, Hold], day: int, actual: Decimal | None, above: str
    ) -> Any:
        place, reservation_id, model = hold
        at = self.step(day)
        answer = wallet.commit(reservation_id, actual, key=self.key(), day=at, above=above)
        amount = model.amount if actual is None else actual
        expected = self.accounts[place].commit(model, amount, above, at)
        if isinstance(expected, str):
            assert answer["reason"] == expected
            return multiple()
        self.assert_taken(answer, expected)
        return place, {"reservation_id": reservation_id}, expected

    @rule(hold=holds, day=DAYS)
    def release(self, hold: tuple[Place, str, Hold], day: int) -> None:
        place, reservation_id, model = hold
        at = self.step(day)
        answer = wallet.release(reservation_id, key=self.key(), day=at)
        expected = self.accounts[place].release(model, at)
        assert answer["released"] == (expected == "released")
        if expected != "released":
            assert answer["reason"] == expected.removeprefix("lost: ")

    @rule(use=uses, day=DAYS, amount=st.none() | AMOUNTS)
    def refund(
        self, use: tuple[Place, dict[str, Any], Use], day: int, amount: Decimal | None
    ) -> None:
        place, name, model = use
        at = self.step(day)
        tenant_id = self.who(place)["tenant_id"]
        answer = wallet.refund(amount, key=self.key(), day=at, tenant_id=tenant_id, **name)
        refundable = self.accounts[place].refund(model, amount, at)
        wanted = refundable if amount is None else amount
        assert answer["refunded"] == (0 < wanted <= refundable)
        left = refundable - wanted if answer["refunded"] else refundable
        assert Decimal(answer["refundable"]) == left

    @rule(day=DAYS)
    def expire(self, day: int) -> None:
        at = self.step(day)
        wallet.sweep(at)
        for account in self.accounts.values():
            account.expire(at)

    @rule(day=DAYS)
    def expire_holds(self, day: int) -> None:
        at = self.step(day)
        wallet.sweep_holds(at)
        for account in self.accounts.values():
            account.expire_holds(at)

    @invariant()
    def the_books_are_sound(self) -> None:
        wallet.assert_sound()

    @invariant()
    def every_account_says_what_the_model_says(self) -> None:
        for place, account in getattr(self, "accounts", {}).items():
            for day in (self.day, self.day + 3):
                found = wallet.balance(day, **self.who(place))
                figures = {
                    name: Decimal(found[name]) for name in ("balance", "held", "debt", "available")
                }
                assert figures == {
                    "balance": account.balance,
                    "held": account.held(day),
                    "debt": account.debt,
                    "available": account.available(day),
                }

    def step(self, day: int) -> float:
        """The instant of a call: no two are alike, else the order of batches would be chance."""
        self.day = round(day + next(self._steps) / 1_000, 3)
        return self.day

    def key(self) -> str:
        return f"{self._run}-{self.day}"

    def who(self, place: Place) -> dict[str, str]:
        tenant_id, product_key = place
        return {"tenant_id": f"{tenant_id}-{self._run}", "product_key": product_key}

    def assert_refused(self, answer: Any, available: Decimal) -> None:
        assert Decimal(answer["available"]) == available
        reason = "insufficient_funds" if available else "quota_exhausted"
        assert answer["reason"] == reason

    def assert_taken(self, answer: Any, use: Use) -> None:
        assert Decimal(answer["amount"]) == naive_credit.total(use.taken)
        paid = {part["batch_id"]: Decimal(part["amount"]) for part in answer["batches"]}
        expected = naive_credit.named(use.taken)
        # A batch that a refund made has a name of its own in the model.
        new = expected.pop("refund", Decimal(0))
        assert {name: paid.pop(name) for name in expected} == expected
        assert sum(paid.values(), Decimal(0)) == new


def machine(make: Callable[[], Credit], *, examples: int, steps: int) -> None:
    chosen = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(make, settings=chosen)


def test_whatever_is_done_credit_comes_to_what_the_naive_model_says(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that stories of a few batches need more than the first look.
    monkeypatch.setattr("models.store.credit_account.FIRST_LOOK", 2)
    monkeypatch.setattr("models.store.credit_funds.FIRST_LOOK", 2)
    machine(Credit, examples=EXAMPLES, steps=STEPS)

"""A machine that does everything to credit, at any time, and compares it with a naive model.

Each verb is a rule here and a method of the model.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from models import database
from models.rules.burndown import Policy
from tests.integration import naive_credit, wallet
from tests.integration.naive_credit import FOREVER, Account, Hold, Lot, Use

T = TypeVar("T")

_runs = itertools.count()

LOTS = st.integers(1, 12).map(Decimal)
AMOUNTS = st.integers(1, 9).map(Decimal) | st.decimals(min_value="0.1", max_value=9, places=1)

PAUSES = st.sampled_from([0, 0, 0, 0, 1, 1, 2, -1])
"""Days from one call to the next: the clock may go back as well, as a late message's does."""

PICKS = st.integers(0, 99)

Place = tuple[str, str]

PLACES: list[Place] = [("ada", "CALLS"), ("ada", "COINS"), ("bob", "CALLS")]

ACCOUNTS = st.sampled_from([PLACES[0], PLACES[0], *PLACES])
"""One more than the others, so that much happens to it."""


@dataclass(frozen=True)
class Terms:
    """How a batch is granted, in days."""

    priority: int
    begins_in: int | None
    lasts: int | None


TERMS = st.builds(
    Terms,
    st.integers(-1, 1),
    st.sampled_from([None, None, 1, 2]),
    st.sampled_from([None, 1, 1, 2, 4]),
)


@dataclass(frozen=True)
class Held:
    """A hold, and whose."""

    place: Place
    reservation_id: str
    model: Hold


@dataclass(frozen=True)
class Used:
    """A use, whose, and how a refund names it."""

    place: Place
    name: dict[str, str]
    model: Use


class Credit(RuleBasedStateMachine):
    """Two tenants, two products: granted, used, held, given back, swept."""

    def __init__(self) -> None:
        super().__init__()
        self._run = next(_runs)
        self._steps = itertools.count(1)
        self._days = 5
        self.day = 0.0
        self.accounts: dict[Place, Account] = {}
        self.holds: list[Held] = []
        self.uses: list[Used] = []

    @initialize(
        policies=st.tuples(st.sampled_from(Policy), st.sampled_from(Policy)),
        first=st.lists(st.tuples(ACCOUNTS, LOTS, TERMS), min_size=3, max_size=8),
    )
    def begin(
        self, policies: tuple[Policy, Policy], first: list[tuple[Place, Decimal, Terms]]
    ) -> None:
        by_product = dict(zip(("CALLS", "COINS"), policies, strict=True))
        for product_key, policy in by_product.items():
            wallet.product(product_key, burn_policy=policy)
        self.accounts = {place: Account(by_product[place[1]]) for place in PLACES}
        for place, amount, terms in first:
            self.grant_one(place, amount, terms, self.step(0))

    @rule(place=ACCOUNTS, pause=PAUSES, amount=LOTS, terms=TERMS)
    def grant(self, place: Place, pause: int, amount: Decimal, terms: Terms) -> None:
        self.grant_one(place, amount, terms, self.step(pause))

    @rule(place=ACCOUNTS, pause=PAUSES, amount=AMOUNTS, afterwards=st.booleans())
    def use(self, place: Place, pause: int, amount: Decimal, *, afterwards: bool) -> None:
        at, key = self.step(pause), self.key()
        if afterwards:
            answer = wallet.deduct(amount, key, day=at, **self.who(place))
            taken = self.accounts[place].deduct(amount, at)
            self.record(place, {"deduct_key": key}, taken, answer)
            return
        answer = wallet.consume(amount, key, day=at, **self.who(place))
        expected = self.accounts[place].consume(amount, at)
        if isinstance(expected, Decimal):
            assert_refused(answer, expected)
        else:
            self.record(place, {"consume_key": key}, expected, answer)

    @rule(place=ACCOUNTS, pause=PAUSES, amount=AMOUNTS, days=st.sampled_from([1, 3, 6]))
    def reserve(self, place: Place, pause: int, amount: Decimal, days: int) -> None:
        at = self.step(pause)
        answer = wallet.reserve(amount, self.key(), day=at, days=days, **self.who(place))
        expected = self.accounts[place].reserve(amount, at, at + days)
        if isinstance(expected, Decimal):
            assert_refused(answer, expected)
            return
        assert Decimal(answer["available"]) == self.accounts[place].available(at)
        self.holds.append(Held(place, answer["reservation_id"], expected))

    @precondition(lambda self: self.holds)
    @rule(
        pick=PICKS,
        pause=PAUSES,
        actual=st.none() | st.integers(0, 5) | st.integers(0, 15),
        how=st.sampled_from(["refuse", "take_available", "overdraft", "overdraft", "release"]),
    )
    def end_hold(self, pick: int, pause: int, actual: int | None, how: str) -> None:
        hold, at = self.pick_hold(pick), self.step(pause)
        if how == "release":
            self.release(hold, at)
        else:
            self.commit(hold, actual, how, at)

    @precondition(lambda self: self.uses)
    @rule(pick=PICKS, pause=PAUSES, amount=st.none() | AMOUNTS)
    def refund(self, pick: int, pause: int, amount: Decimal | None) -> None:
        use, at = picked(self.uses, pick), self.step(pause)
        tenant_id = self.who(use.place)["tenant_id"]
        answer = wallet.refund(amount, key=self.key(), day=at, tenant_id=tenant_id, **use.name)
        refundable = self.accounts[use.place].refund(use.model, amount, at)
        wanted = refundable if amount is None else amount
        assert answer["refunded"] == (0 < wanted <= refundable)
        left = refundable - wanted if answer["refunded"] else refundable
        assert Decimal(answer["refundable"]) == left

    @precondition(lambda self: self.is_something_over())
    @rule(pause=PAUSES, holds=st.booleans())
    def sweep(self, pause: int, *, holds: bool) -> None:
        at = self.step(pause)
        if holds:
            wallet.sweep_holds(at)
        else:
            wallet.sweep(at)
        for account in self.accounts.values():
            if holds:
                account.expire_holds(at)
            else:
                account.expire(at)

    @invariant()
    def the_books_are_sound(self) -> None:
        wallet.assert_sound()

    @invariant()
    def every_account_says_what_the_model_says(self) -> None:
        for place, account in self.accounts.items():
            for day in (self.day, self.day + 2)[: 1 + (place == PLACES[0])]:
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

    @invariant()
    def every_batch_has_what_the_model_says(self) -> None:
        """But for those that refunds made, whose names the model does not know."""
        batches = "SELECT tenant_id, id, remaining_amount, held_amount, state, source"
        found = {
            str(batch_id): (remaining, held, state in ("EXPIRED", "REVOKED"))
            for tenant_id, batch_id, remaining, held, state, source in wallet.rows(
                database.engine(), f"{batches} FROM credit_batches"
            )
            if tenant_id.endswith(f"-{self._run}") and source != "refund"
        }
        lots = [lot for account in self.accounts.values() for lot in account.lots]
        assert found == {
            lot.name: (lot.left, lot.held, lot.closed) for lot in lots if lot.name != "refund"
        }

    def grant_one(self, place: Place, amount: Decimal, terms: Terms, at: float) -> None:
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

    def commit(self, hold: Held, actual: int | None, above: str, at: float) -> None:
        answer = wallet.commit(hold.reservation_id, actual, key=self.key(), day=at, above=above)
        amount = hold.model.amount if actual is None else Decimal(actual)
        expected = self.accounts[hold.place].commit(hold.model, amount, above, at)
        if isinstance(expected, str):
            assert answer["reason"] == expected
        else:
            name = {"reservation_id": hold.reservation_id}
            self.record(hold.place, name, expected, answer)

    def release(self, hold: Held, at: float) -> None:
        answer = wallet.release(hold.reservation_id, key=self.key(), day=at)
        expected = self.accounts[hold.place].release(hold.model, at)
        assert answer["released"] == (expected == "released")
        if expected != "released":
            assert answer["reason"] == expected.removeprefix("lost: ")

    def record(self, place: Place, name: dict[str, str], use: Use, answer: Any) -> None:
        """Keep a use that was charged, and check whom it was charged to."""
        self.uses.append(Used(place, name, use))
        assert Decimal(answer["amount"]) == naive_credit.total(use.taken)
        paid = {part["batch_id"]: Decimal(part["amount"]) for part in answer["batches"]}
        expected = naive_credit.named(use.taken)
        # A batch that a refund made has a name of its own in the model.
        new = expected.pop("refund", Decimal(0))
        assert {name: paid.pop(name) for name in expected} == expected
        assert sum(paid.values(), Decimal(0)) == new

    def pick_hold(self, pick: int) -> Held:
        """One that is open, mostly; now and then any, so that some calls come too late."""
        still = [
            hold for hold in self.holds if hold.model.state == "held" and hold.model.ends > self.day
        ]
        return picked(still if still and pick % 5 else self.holds, pick)

    def is_something_over(self) -> bool:
        """Whether a sweep may have something to do: most would find nothing."""
        lots = [lot for account in self.accounts.values() for lot in account.lots]
        return any(lot.left and not lot.closed and lot.ends <= self.day for lot in lots) or any(
            hold.model.state == "held" and hold.model.ends <= self.day for hold in self.holds
        )

    def step(self, pause: int) -> float:
        """The instant of a call: no two are alike, else the order of batches would be chance."""
        self._days = max(0, self._days + pause)
        self.day = round(self._days + next(self._steps) / 1_000, 3)
        return self.day

    def key(self) -> str:
        return f"{self._run}-{self.day}"

    def who(self, place: Place) -> dict[str, str]:
        tenant_id, product_key = place
        return {"tenant_id": f"{tenant_id}-{self._run}", "product_key": product_key}


def picked(found: Sequence[T], pick: int) -> T:
    return found[pick % len(found)]


def assert_refused(answer: Any, available: Decimal) -> None:
    assert Decimal(answer["available"]) == available
    assert answer["reason"] == ("insufficient_funds" if available else "quota_exhausted")

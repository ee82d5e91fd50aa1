"""Exchange, corrections and revoking among everything else that is done with credit, in any order.

The stories of `test_credit_machine` with more verbs, told beside the same naive model.
"""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from sqlalchemy import Engine

from models.rules.burndown import Policy
from models.rules.refusal import Refusal
from tasks.adjustments import adjust_credits
from tasks.batches import revoke
from tasks.exchange import exchange
from tasks.offers import set_offer
from tests.integration import naive_credit, wallet
from tests.integration.naive_credit import FOREVER, Lot
from tests.integration.test_credit_machine import (
    ACCOUNTS,
    AMOUNTS,
    DAYS,
    EXAMPLES,
    STEPS,
    Credit,
    Place,
    machine,
)

PRICE, PACK, LASTS = 4, 15, 5
"""What a pack costs in coins, how many calls it holds, and for how many days."""

WHY: Any = {"reason": "a story", "actor": "hypothesis"}


class Decisions(Credit):
    """Coins can be changed for calls; somebody corrects balances and takes batches back."""

    @initialize(policies=st.tuples(st.sampled_from(Policy), st.sampled_from(Policy)))
    def begin(self, policies: tuple[Policy, Policy]) -> None:
        super().begin(policies)
        wallet.product("COINS", burn_policy=policies[1], is_currency=True)
        items: Any = [{"product_key": "CALLS", "quantity": PACK, "period": "days", "value": LASTS}]
        set_offer(sku="pack", name="Pack", price=str(PRICE), currency="COINS", items=items)

    @rule(day=DAYS, quantity=st.integers(1, 3))
    def exchange(self, day: int, quantity: int) -> None:
        at = self.step(day)
        coins, calls = (self.accounts["ada", key] for key in ("COINS", "CALLS"))
        there, price = coins.available(at), Decimal(PRICE * quantity)
        answer: Any = exchange(
            tenant_id=self.who(("ada", "CALLS"))["tenant_id"],
            sku="pack",
            quantity=quantity,
            idempotency_key=self.key(),
            as_of=wallet.at(at),
        )
        if there < price:
            assert answer["exchanged"] is False
            self.assert_refused(answer, there)
            return
        paid = coins.consume(price, at)
        assert isinstance(paid, naive_credit.Use)
        (batch,) = answer["batches"]
        ends = at + LASTS
        calls.grant(Lot(batch["batch_id"], Decimal(PACK * quantity), 0, at, at, ends), at)
        assert Decimal(batch["balance"]) == calls.balance

    @rule(place=ACCOUNTS, day=DAYS, amount=AMOUNTS, up=st.booleans())
    def adjust(self, place: Place, day: int, amount: Decimal, up: bool) -> None:
        at, account = self.step(day), self.accounts[place]
        answer: Any = adjust_credits(
            **self.who(place),
            amount=str(amount if up else -amount),
            idempotency_key=self.key(),
            as_of=wallet.at(at),
            **WHY,
        )
        if up:
            lot = Lot(answer["batch"]["batch_id"], amount, 0, at, at, FOREVER)
            account.grant(lot, at)
        else:
            taken = account.consume(amount, at)
            if isinstance(taken, Decimal):
                self.assert_refused(answer, taken)
                return
        assert answer["adjusted"] is True
        assert Decimal(answer["balance"]) == account.balance

    @rule(place=ACCOUNTS, day=DAYS, which=st.integers(0, 20))
    def revoke(self, place: Place, day: int, which: int) -> None:
        # One that a refund made has a name of its own in the model.
        lots = [lot for lot in self.accounts[place].lots if lot.name != "refund"]
        if not lots:
            return
        lot, at = lots[which % len(lots)], self.step(day)
        call: Any = {"tenant_id": self.who(place)["tenant_id"], "batch_id": lot.name}
        call |= {"idempotency_key": self.key(), "as_of": wallet.at(at), **WHY}
        if lot.closed:
            with pytest.raises(Refusal):
                revoke(**call)
            return
        (revoked,) = revoke(**call)["batches"]
        assert (Decimal(revoked["amount"]), Decimal(revoked["held"])) == (lot.free, lot.held)
        lot.left, lot.closed = lot.held, True


def test_whatever_is_decided_credit_comes_to_what_the_naive_model_says(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that stories of a few batches need more than the first look.
    monkeypatch.setattr("models.store.credit_account.FIRST_LOOK", 2)
    monkeypatch.setattr("models.store.credit_funds.FIRST_LOOK", 2)
    machine(Decisions, examples=EXAMPLES, steps=STEPS)

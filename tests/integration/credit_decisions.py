"""The machine of `credit_machine` with more verbs: exchange, corrections, taking batches back."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from models.rules.burndown import Policy
from models.rules.refusal import Refusal
from tasks.adjustments import adjust_credits
from tasks.batches import revoke
from tasks.exchange import exchange
from tasks.merging import merge_customers
from tasks.offers import set_offer
from tasks.tenants import set_tenant
from tests.integration import naive_credit, wallet
from tests.integration.credit_machine import (
    ACCOUNTS,
    AMOUNTS,
    LOTS,
    PAUSES,
    PICKS,
    TERMS,
    Credit,
    Place,
    Terms,
    assert_refused,
    picked,
)
from tests.integration.naive_credit import FOREVER, Lot

PRICE, PACK, LASTS = 2, 7, 2
"""What a pack costs in coins, how many calls it holds, and for how many days."""

WHY: Any = {"reason": "a story", "actor": "hypothesis"}


class Decisions(Credit):
    """Coins can be changed for calls; somebody corrects balances and takes batches back."""

    @initialize(
        policies=st.tuples(st.sampled_from(Policy), st.sampled_from(Policy)),
        first=st.lists(st.tuples(ACCOUNTS, LOTS, TERMS), min_size=3, max_size=8),
    )
    def begin(
        self, policies: tuple[Policy, Policy], first: list[tuple[Place, Decimal, Terms]]
    ) -> None:
        super().begin(policies, first)
        wallet.product("COINS", burn_policy=policies[1], is_currency=True)
        items: Any = [{"product_key": "CALLS", "quantity": PACK, "period": "days", "value": LASTS}]
        set_offer(sku="pack", name="Pack", price=str(PRICE), currency="COINS", items=items)

    @rule(pause=PAUSES, quantity=st.integers(1, 3))
    def exchange(self, pause: int, quantity: int) -> None:
        at = self.step(pause)
        coins, calls = (self.accounts["ada", key] for key in ("COINS", "CALLS"))
        there, price = coins.available(at), Decimal(PRICE * quantity)
        answer: Any = exchange(
            tenant_id=self.who(("ada", "CALLS"))["tenant_id"],
            sku="pack",
            quantity=quantity,
            idempotency_key=self.key(),
            as_of=wallet.at(at),
        )
        if there < price:  # and then nothing has happened at all: no debt was paid, no hold ended
            assert answer["exchanged"] is False
            assert_refused(answer, there)
            return
        paid = coins.consume(price, at)
        assert isinstance(paid, naive_credit.Use)
        (batch,) = answer["batches"]
        ends = at + LASTS
        calls.grant(Lot(batch["batch_id"], Decimal(PACK * quantity), 0, at, at, ends), at)
        assert Decimal(batch["balance"]) == calls.balance

    @rule(place=ACCOUNTS, pause=PAUSES, amount=AMOUNTS, up=st.booleans())
    def adjust(self, place: Place, pause: int, amount: Decimal, *, up: bool) -> None:
        at, account = self.step(pause), self.accounts[place]
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
                assert_refused(answer, taken)
                return
        assert answer["adjusted"] is True
        assert Decimal(answer["balance"]) == account.balance

    @precondition(lambda self: self.accounts["bob", "CALLS"] is not self.accounts["ada", "CALLS"])
    @rule(pause=PAUSES)
    def merge(self, pause: int) -> None:
        """Bob becomes part of Ada, once; what is done to Bob is done to her from then on."""
        at = self.step(pause)
        for place in (("ada", "CALLS"), ("bob", "CALLS")):
            set_tenant(tenant_id=self.who(place)["tenant_id"])
        merge_customers(
            source=self.who(("bob", "CALLS"))["tenant_id"],
            target=self.who(("ada", "CALLS"))["tenant_id"],
            idempotency_key=self.key(),
            as_of=wallet.at(at),
        )
        self.accounts["ada", "CALLS"].join(self.accounts["bob", "CALLS"], at)
        self.accounts["bob", "CALLS"] = self.accounts["ada", "CALLS"]

    @rule(place=ACCOUNTS, pause=PAUSES, pick=PICKS)
    def revoke(self, place: Place, pause: int, pick: int) -> None:
        # One that a refund made has a name of its own in the model.
        lots = [lot for lot in self.accounts[place].lots if lot.name != "refund"]
        if not lots:
            return
        lot, at = picked(lots, pick), self.step(pause)
        call: Any = {"tenant_id": self.who(place)["tenant_id"], "batch_id": lot.name}
        call |= {"idempotency_key": self.key(), "as_of": wallet.at(at), **WHY}
        if lot.closed:
            with pytest.raises(Refusal):
                revoke(**call)
            return
        (revoked,) = revoke(**call)["batches"]
        assert (Decimal(revoked["amount"]), Decimal(revoked["held"])) == (lot.free, lot.held)
        lot.left, lot.closed = lot.held, True

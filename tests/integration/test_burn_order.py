"""Which credit pays first: as the product says, whoever takes it and however little is read."""

import itertools
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models.rules.burndown import Policy
from tests.integration import wallet
from tests.integration.explained import explained

_tenants = itertools.count()


@pytest.fixture
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that more than the first look is needed, and what lies at its edge is met."""
    monkeypatch.setattr("models.store.credit_account.FIRST_LOOK", 3)
    monkeypatch.setattr("models.store.credit_funds.FIRST_LOOK", 3)


@dataclass(frozen=True)
class Lot:
    """A batch granted so many hundredths of a day into the story."""

    amount: int
    priority: int
    begins: int | None
    ends: int | None


LOTS = st.lists(
    st.builds(
        Lot,
        st.integers(1, 5),
        st.integers(-1, 1),
        st.none() | st.integers(2, 4),
        st.none() | st.integers(5, 9),
    ),
    min_size=1,
    max_size=9,
)

NOW = 3


def in_paying_order(lots: list[Lot], policy: Policy) -> list[int]:
    """The numbers of the lots that can pay now, sorted the plain way."""
    usable = [number for number, lot in enumerate(lots) if (lot.begins or 0) <= NOW]

    def by_expiry(number: int) -> tuple[float, ...]:
        lot = lots[number]
        return (lot.priority, float("inf") if lot.ends is None else lot.ends, number)

    def by_age(number: int) -> tuple[float, ...]:
        return (lots[number].priority, number)

    return sorted(usable, key=by_age if policy is Policy.fifo else by_expiry)


def expected(lots: list[Lot], policy: Policy, amount: int) -> list[tuple[int, int]]:
    """Which lot pays how much."""
    paid = []
    for number in in_paying_order(lots, policy):
        part = min(lots[number].amount, amount)
        amount -= part
        if part:
            paid.append((number, part))
    return paid


@pytest.mark.usefixtures("short_look")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lots=LOTS, policy=st.sampled_from(Policy), share=st.integers(1, 100))
@pytest.mark.parametrize("how", ["consume", "reserve", "deduct", "exceed"])
def test_whoever_takes_credit_takes_it_in_the_products_order(
    db: Engine, how: str, lots: list[Lot], policy: Policy, share: int
) -> None:
    wallet.product(burn_policy=policy)
    tenant_id = f"tenant-{next(_tenants)}"
    granted = [
        wallet.grant(
            lot.amount,
            f"g{number}",
            day=number / 100,
            valid_from=lot.begins,
            expires_at=lot.ends,
            priority=lot.priority,
            tenant_id=tenant_id,
        )["batch_id"]
        for number, lot in enumerate(lots)
    ]
    usable = in_paying_order(lots, policy)
    amount = max(1, sum(lots[number].amount for number in usable) * share // 100)
    if not usable:
        return

    answer = take(how, amount, tenant_id=tenant_id)

    paid = [(granted.index(part["batch_id"]), int(part["amount"])) for part in answer["batches"]]
    assert paid == expected(lots, policy, amount)


def take(how: str, amount: int, *, tenant_id: str) -> Any:
    match how:
        case "consume":
            return wallet.consume(amount, "c", day=NOW, tenant_id=tenant_id)
        case "deduct":
            return wallet.deduct(amount, "d", day=NOW, tenant_id=tenant_id)
        case "reserve":
            held = wallet.hold(amount, day=NOW, tenant_id=tenant_id)
            return wallet.commit(held, day=NOW)
        case _:  # from one unit to all of it
            held = wallet.hold(1, day=NOW, tenant_id=tenant_id)
            return wallet.commit(held, amount, day=NOW, above="take_available")


def test_a_lower_priority_is_spent_before_older_credit(db: Engine) -> None:
    wallet.product()
    wallet.grant(5, "bought")
    free = wallet.grant(5, "free", day=1, priority=-1)["batch_id"]

    assert wallet.consume(3, "c", day=2)["batches"] == [{"batch_id": free, "amount": "3"}]


def test_a_change_of_policy_counts_from_the_next_use_on(db: Engine) -> None:
    wallet.product()
    old = wallet.grant(5, "old", expires_at=90)["batch_id"]
    short = wallet.grant(5, "short", day=1, expires_at=9)["batch_id"]

    assert wallet.consume(1, "c1", day=2)["batches"][0]["batch_id"] == old
    wallet.product(burn_policy="soonest_expiry_first")
    assert wallet.consume(1, "c2", day=2)["batches"][0]["batch_id"] == short


@pytest.mark.parametrize(
    ("policy", "index"),
    [
        (Policy.fifo, "ix_credit_batches_spendable"),
        (Policy.soonest_expiry_first, "ix_credit_batches_spendable_by_expiry"),
    ],
)
def test_the_first_look_reads_an_index_in_paying_order_and_sorts_nothing(
    db: Engine, policy: Policy, index: str
) -> None:
    wallet.product(burn_policy=policy)
    wallet.grant(1, "g", expires_at=400)
    with db.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO credit_batches (id, tenant_id, product_key, initial_amount,"
                " remaining_amount, valid_from, expires_at, source, created_at)"
                " SELECT gen_random_uuid(), 'acme', 'CALLS', 1, 1, '2026-01-01Z',"
                " timestamptz '2027-01-01Z' + n * interval '1 minute', 'test', '2026-01-01Z'"
                " FROM generate_series(1, 5000) AS n"
            )
        )
        connection.execute(text("ANALYZE credit_batches"))

    with explained(db, "FOR UPDATE OF balance") as plans:
        wallet.consume(1, "c", day=1)

    (plan,) = plans
    assert f"using {index} " in plan
    assert "Sort" not in plan


def test_amounts_at_the_edge_of_the_first_look_are_paid_to_the_unit(db: Engine) -> None:
    wallet.product()
    for number in range(34):
        wallet.grant(1, f"g{number}", day=number / 100)

    assert wallet.consume(32, "c1", day=1)["consumed"] is True
    assert wallet.consume(3, "c2", day=1)["available"] == "2"
    assert Decimal(wallet.consume(2, "c3", day=1)["balance"]) == 0
    assert len(wallet.events(db, "billing.product_deactivated")) == 1
    wallet.assert_sound()

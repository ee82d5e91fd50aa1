"""Random stories of granting, spending and expiring, told beside a naive model of them."""

import itertools
from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from tests.integration import wallet

_tenants = itertools.count()

DAYS = st.integers(0, 20)
AMOUNTS = st.decimals(min_value="0.001", max_value=50, places=3)


@dataclass(frozen=True)
class Grant:
    amount: Decimal
    begins_in: int
    lasts: int | None


@dataclass(frozen=True)
class Consume:
    amount: Decimal


@dataclass(frozen=True)
class Sweep:
    pass


GRANTS = st.builds(
    Grant, AMOUNTS, st.integers(0, 3), st.one_of(st.none(), st.integers(min_value=1, max_value=9))
)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 4, allow_nan=False).map(lambda days: round(days, 2)),
        st.one_of(GRANTS, st.builds(Consume, AMOUNTS), st.builds(Sweep)),
    ),
    min_size=1,
    max_size=14,
)


@dataclass
class Lot:
    left: Decimal
    begins: float
    ends: float


@dataclass
class Naive:
    """Credit as a list of lots, oldest first. Nothing is locked, cached or set-based here."""

    lots: list[Lot] = field(default_factory=list)
    told: list[tuple[str, float]] = field(default_factory=list)

    def usable(self, day: float) -> list[Lot]:
        return [lot for lot in self.lots if lot.left and lot.begins <= day < lot.ends]

    def grant(self, step: Grant, day: float) -> None:
        begins = day + step.begins_in
        ends = float("inf") if step.lasts is None else begins + step.lasts
        self.lots.append(Lot(step.amount, begins, ends))

    def consume(self, amount: Decimal, day: float) -> str | None:
        usable = self.usable(day)
        if sum(lot.left for lot in usable) < amount:
            return "insufficient_funds" if usable else "quota_exhausted"
        for lot in usable:
            part = min(lot.left, amount)
            lot.left -= part
            amount -= part
        if not self.usable(day):
            self.told.append(("exhausted", day))
        return None

    def sweep(self, day: float) -> int:
        over = [lot for lot in self.lots if lot.left and lot.ends <= day]
        for lot in over:
            lot.left = Decimal(0)
        told_at = self.told[-1][1] if self.told else -1.0
        if not self.usable(day) and any(lot.ends > told_at for lot in over):
            self.told.append(("expired", day))
        return len(over)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_story_is_told_as_the_naive_model_tells_it(
    db: Engine, steps: list[tuple[float, Grant | Consume | Sweep]]
) -> None:
    wallet.product()
    tenant_id = f"tenant-{next(_tenants)}"
    naive = Naive()
    day = 0.0
    for number, (pause, step) in enumerate(steps):
        # No two grants at one instant: their order would be that of their random ids.
        day = round(day + pause + 0.01, 2)
        match step:
            case Grant():
                naive.grant(step, day)
                begins = day + step.begins_in
                wallet.grant(
                    step.amount,
                    f"k{number}",
                    day=day,
                    tenant_id=tenant_id,
                    valid_from=begins,
                    expires_at=None if step.lasts is None else begins + step.lasts,
                )
            case Consume():
                answer = wallet.consume(step.amount, f"k{number}", day=day, tenant_id=tenant_id)
                assert answer.get("reason") == naive.consume(step.amount, day)
            case Sweep():
                assert wallet.sweep(day)["expired"] == naive.sweep(day)
        standing = wallet.balance(day, tenant_id=tenant_id)
        usable = naive.usable(day)
        assert Decimal(standing["balance"]) == sum(lot.left for lot in naive.lots)
        assert Decimal(standing["available"]) == sum(lot.left for lot in usable)
        assert standing["batches"] == len(usable)
    # Examples share a database: the next one's sweeps must find nothing of this one.
    assert wallet.sweep(10_000)["expired"] == naive.sweep(10_000)
    assert deactivations(db, tenant_id) == [reason for reason, _ in naive.told]
    wallet.assert_sound()


def deactivations(db: Engine, tenant_id: str) -> list[str]:
    told = wallet.events(db, "billing.product_deactivated")
    return [event["data"]["reason"] for event in told if event["tenant_id"] == tenant_id]

"""Many at once: exact to the unit, one winner a key, and no tenant in another's way."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.integration import wallet

THREADS = 16
CALLS_EACH = 25


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Run `call(0)`, `call(1)` … in threads that start together; return what they return."""
    together = threading.Barrier(count)

    def run(number: int) -> Any:
        together.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_eight_calls_with_one_key_debit_once(db: Engine) -> None:
    wallet.grant(100, "g")

    answers = at_once(8, lambda _: wallet.consume(7, "same", day=1))

    assert all(answer == answers[0] for answer in answers)
    assert wallet.ledger(db) == [("CREDIT", "grant", 100, 100), ("DEBIT", "consume", 7, 93)]
    assert len(wallet.events(db, "billing.quota_consumed")) == 1


def test_first_grants_of_a_new_tenant_at_once_are_all_kept(db: Engine) -> None:
    at_once(8, lambda number: wallet.grant(1, f"g{number}", tenant_id="new"))

    assert wallet.balance(tenant_id="new")["balance"] == "8"
    wallet.assert_sound()


def test_sixteen_threads_spend_to_the_unit_while_credit_expires(db: Engine) -> None:
    """Half of the credit is over before the spending begins, and is swept in the middle of it."""
    for number in range(60):
        wallet.grant(5, f"g{number}", expires_at=1 if number % 2 else None)

    def spend(thread: int) -> int:
        if thread == THREADS:
            return sweep_all()
        answers = [wallet.consume(1, f"{thread}-{n}", day=2) for n in range(CALLS_EACH)]
        return sum(answer["consumed"] for answer in answers)

    def sweep_all() -> int:
        swept = 0
        while swept < 30:
            swept += wallet.sweep(2)["expired"]
        return 0

    taken = at_once(THREADS + 1, spend)

    # 400 calls wanted one of the 150 that could be spent; the other 150 expired.
    assert sum(taken) == 150
    assert wallet.balance(2)["balance"] == "0"
    totals = "SELECT action, sum(amount) FROM ledger_entries GROUP BY action ORDER BY action"
    assert wallet.rows(db, totals) == [("consume", 150), ("expire", 150), ("grant", 300)]
    assert len(wallet.events(db, "billing.quota_consumed")) == 150
    assert len(wallet.events(db, "billing.product_deactivated")) == 1
    wallet.assert_sound()


def test_two_sweeps_at_once_expire_each_batch_once(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.credit_upkeep.EXPIRY_CHUNK", 3)
    for number in range(30):
        wallet.grant(1, f"g{number}", tenant_id=f"t{number % 7}", expires_at=1)

    at_once(4, lambda _: wallet.sweep(2))
    wallet.sweep(2)

    assert len(wallet.events(db, "billing.credits_expired")) == 30
    assert len(wallet.events(db, "billing.product_deactivated")) == 7
    wallet.assert_sound()


def test_one_tenant_never_waits_for_another(impatient: Engine) -> None:
    for tenant_id in ("acme", "bolt"):
        wallet.grant(10, "g", tenant_id=tenant_id, expires_at=9)

    with impatient.connect() as connection, connection.begin():
        connection.execute(
            text("SELECT 1 FROM credit_balances WHERE tenant_id = 'acme' FOR UPDATE")
        )
        connection.execute(text("SELECT 1 FROM credit_batches WHERE tenant_id = 'acme' FOR UPDATE"))
        assert wallet.consume(4, "c", tenant_id="bolt")["balance"] == "6"
        assert wallet.grant(1, "g2", tenant_id="bolt")["balance"] == "7"
        assert wallet.grant(1, "g1", tenant_id="newcomer")["balance"] == "1"
        assert wallet.sweep(10)["expired"] == 1
    wallet.assert_sound()

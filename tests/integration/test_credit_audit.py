"""The audit: quiet when all is well, and each kind of damage found by its name."""

import pytest
from sqlalchemy import Engine, text

from tasks.credit_upkeep import audit
from tests.integration import wallet

FORGED = (
    "INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,"
    " balance_after, cause_type, cause_id, created_at) SELECT tenant_id, product_key, 'CREDIT', 1,"
    " 'grant', id, {after}, 'forged', '1', now() FROM credit_batches LIMIT 1"
)


@pytest.fixture(autouse=True)
def story(db: Engine) -> None:
    """Two tenants who were granted something and spent some of it; some of it expired."""
    wallet.product()
    for tenant_id in ("acme", "bolt"):
        wallet.grant(10, "g1", tenant_id=tenant_id, expires_at=5)
        wallet.consume(4, "c", tenant_id=tenant_id)
    wallet.sweep(6)
    wallet.grant(7, "g2", day=7)


def test_sound_books_have_no_findings(db: Engine) -> None:
    wallet.assert_sound()


@pytest.mark.parametrize(
    ("damage", "checks"),
    [
        (
            "UPDATE credit_balances SET balance = balance + 1 WHERE tenant_id = 'acme'",
            {"ledger", "batches"},
        ),
        ("UPDATE credit_balances SET held = 1 WHERE tenant_id = 'acme'", {"held"}),
        (
            "UPDATE credit_batches SET remaining_amount = 6 WHERE state = 'ACTIVE'",
            {"batches", "batch"},
        ),
        (FORGED.format(after=1), {"ledger", "batch", "chain"}),
        ("DELETE FROM credit_balances WHERE tenant_id = 'acme'", {"ledger", "batches"}),
    ],
)
def test_damage_is_found(db: Engine, damage: str, checks: set[str]) -> None:
    with db.begin() as connection:
        connection.execute(text(damage))

    answer = audit()

    assert answer["ok"] is False
    assert {finding["check"] for finding in answer["findings"]} == checks  # type: ignore[index]
    assert {finding["tenant_id"] for finding in answer["findings"]} == {"acme"}  # type: ignore[index]


def test_two_batches_that_differ_but_sum_up_are_found(db: Engine) -> None:
    wallet.grant(7, "g3", day=8)
    with db.begin() as connection:
        swap = "UPDATE credit_batches SET remaining_amount = {} WHERE state = 'ACTIVE' AND {}"
        connection.execute(text(swap.format(6, f"created_at = '{wallet.at(7)}'")))
        connection.execute(text("SAVEPOINT here"))
        connection.execute(
            text("UPDATE credit_batches SET initial_amount = 8 WHERE created_at = :at"),
            {"at": wallet.at(8)},
        )
        connection.execute(text(swap.format(8, f"created_at = '{wallet.at(8)}'")))

    findings = audit()["findings"]

    assert [finding["check"] for finding in findings] == ["batch", "batch"]  # type: ignore[index]

"""Dying between any two statements leaves nothing behind, and the same call then works."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.integration import wallet

TABLES = (
    "tenants",
    "credit_balances",
    "credit_batches",
    "ledger_entries",
    "idempotency_keys",
    "outbox_messages",
    "outbox_pending",
)

MOST_STATEMENTS = 40


class Died(BaseException):
    """What stands for the end of the process: nothing may catch it."""


CALLS: dict[str, Callable[[], Any]] = {
    "add_credits": lambda: wallet.grant(5, "new", day=3, tenant_id="newcomer"),
    "consume_quota": lambda: wallet.consume(12, "c", day=3),
    "expire_batches": lambda: wallet.sweep(9),
}


@contextmanager
def dying_before_statement(engine: Engine, number: int) -> Iterator[None]:
    """Let `number` statements through and die before the next one, or before the commit."""
    passed = 0

    def count(*_: Any) -> None:
        nonlocal passed
        if passed == number:
            raise Died
        passed += 1

    event.listen(engine, "before_cursor_execute", count)
    event.listen(engine, "commit", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)
        event.remove(engine, "commit", count)


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    return {table: wallet.rows(engine, f"TABLE {table}") for table in TABLES}


@pytest.mark.parametrize("name", CALLS)
def test_dying_between_two_statements_leaves_nothing(db: Engine, name: str) -> None:
    wallet.product()
    wallet.grant(7, "g1", expires_at=8)
    wallet.grant(7, "g2", day=1, expires_at=8)
    before = contents(db)

    for number in range(MOST_STATEMENTS):
        try:
            with dying_before_statement(db, number):
                CALLS[name]()
        except Died:
            assert contents(db) == before
        else:
            break
    else:
        pytest.fail(f"{name} needs more than {MOST_STATEMENTS} statements")

    assert number >= 5
    assert contents(db) != before
    wallet.assert_sound()

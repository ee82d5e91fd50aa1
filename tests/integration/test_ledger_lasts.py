"""Deleting anything never deletes what the ledger holds."""

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tests.integration import shop, wallet

LEDGER = "SELECT id, tenant_id, product_key, direction, amount, balance_after FROM ledger_entries"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


def ledger(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(text(f"{LEDGER} ORDER BY id"))]


@pytest.fixture
def sold(db: Engine) -> Engine:
    """A database in which things were ordered, paid, spent, held and given back."""
    shop.open_shop()
    ordered = shop.bought("pack", "bundle")
    wallet.consume(30, "c", day=1)
    wallet.commit(wallet.hold(20, "h", day=2), 15, day=3)
    shop.refund(ordered, day=4)
    return db


@pytest.mark.parametrize("how", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_whatever_is_deleted_the_ledger_stays(sold: Engine, how: str) -> None:
    refused = set()
    with sold.connect() as connection:
        before = ledger(connection)
        assert {row[3] for row in before} == {"CREDIT", "DEBIT"}
        for table in connection.scalars(text(TABLES)).all():
            attempt = connection.begin_nested()
            try:
                connection.execute(text(how.format(table)))
            except DBAPIError:
                refused.add(table)
            else:
                assert ledger(connection) == before, table
            finally:
                attempt.rollback()
    assert {"ledger_entries", "credit_batches", "products", "tenants"} <= refused

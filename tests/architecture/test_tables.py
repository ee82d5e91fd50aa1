"""What every table owes, read off the metadata and a migrated database."""

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Column, DateTime, Engine, Float, Table
from sqlalchemy.sql.schema import SchemaItem

from models import (
    allocation,
    catalog,
    check,
    credit,
    discount,
    identity,
    inbox,
    invoice,
    invoice_sync,
    issuer,
    late_usage,
    migrations,
    offer,
    order,
    outbox,
    parking,
    quota,
    referral,
    settlement,
    subscription,
    tax,
    tenant,
    trial,
    usage,
    usage_archive,
)
from models.base import Base

TABLE_MODULES = (
    allocation,
    catalog,
    check,
    credit,
    discount,
    identity,
    inbox,
    invoice,
    invoice_sync,
    issuer,
    late_usage,
    offer,
    order,
    outbox,
    parking,
    quota,
    referral,
    settlement,
    subscription,
    tax,
    tenant,
    trial,
    usage,
    usage_archive,
)


def columns() -> Iterator[Column[object]]:
    for table in Base.metadata.tables.values():
        yield from table.columns


@pytest.mark.parametrize("column", list(columns()), ids=str)
def test_times_are_aware_and_numbers_exact(column: Column[object]) -> None:
    assert not isinstance(column.type, Float)
    if isinstance(column.type, DateTime):
        assert column.type.timezone


@pytest.mark.parametrize("column", list(columns()), ids=str)
def test_times_end_in_at_or_say_what_they_bound(column: Column[object]) -> None:
    if isinstance(column.type, DateTime):
        bounds = ("_at", "_until", "_start", "_end", "_from")
        assert column.name == "at" or column.name.endswith(bounds)


def test_money_stands_beside_a_currency() -> None:
    for table in Base.metadata.tables.values():
        if any(column.name.endswith("_minor") for column in table.columns):
            assert "currency" in table.columns, table.name


def test_every_constraint_and_index_is_named() -> None:
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            assert constraint.name, f"{table.name}: {constraint}"
        assert all(index.name for index in table.indexes)


def test_every_state_column_is_checked_against_its_enum() -> None:
    for table in Base.metadata.tables.values():
        for name in {"state", "kind", "direction", "action", "granularity"} & set(table.c.keys()):
            if table.c[name].computed is None:
                assert f"ck_{table.name}_{name}" in {
                    constraint.name
                    for constraint in table.constraints
                    if isinstance(constraint, CheckConstraint)
                }


def test_foreign_keys_restrict() -> None:
    for column in columns():
        for key in column.foreign_keys:
            assert key.ondelete is None
            assert key.onupdate is None


def test_there_is_one_migration_head() -> None:
    heads = ScriptDirectory.from_config(migrations.configuration()).get_heads()

    assert len(heads) == 1


def test_migrating_an_empty_database_gives_the_tables_of_the_code(db: Engine) -> None:
    def is_ours(item: SchemaItem, name: str | None, kind: str, *_: object) -> bool:
        table = item if isinstance(item, Table) else getattr(item, "table", None)
        partition = table is not None and table.name.startswith("delivery_attempts_")
        return not partition

    with db.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "include_object": is_ours},
        )
        differences = compare_metadata(context, Base.metadata)

    assert differences == []

"""Every table that names a tenant says what becomes of its rows when two tenants become one."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, ForeignKey, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from models.base import Base
from models.store import (
    merge_credit,
    merge_registry,
    merge_usage,
    merging,
)
from models.store.merge_registry import REGISTRY, Repoint, Special

MODULES = {"merge_credit": merge_credit, "merge_usage": merge_usage, "merging": merging}


def named() -> Iterator[tuple[str, str]]:
    """Every column that holds the id of a tenant: by its name, or by what it points at."""
    for table in Base.metadata.tables.values():
        for column in table.columns:
            if column.name == "tenant_id" or any(map(is_of_tenant, column.foreign_keys)):
                yield table.name, column.name


def is_of_tenant(key: ForeignKey) -> bool:
    return key.target_fullname == "tenants.tenant_id"


@pytest.mark.parametrize(("table", "column"), sorted(named()))
def test_a_column_that_names_a_tenant_stands_in_the_registry_once(table: str, column: str) -> None:
    found = [entry for entry in REGISTRY if (entry.table, entry.column) == (table, column)]

    assert len(found) == 1, f"say in models/store/merge_registry.py what becomes of {table}"


def test_the_registry_names_no_table_that_there_is_not() -> None:
    assert {(entry.table, entry.column) for entry in REGISTRY} == set(named())


@pytest.mark.parametrize(
    "entry", [entry for entry in REGISTRY if isinstance(entry, Repoint)], ids=lambda one: one.table
)
def test_where_the_tenant_is_unique_with_others_a_clash_is_thought_of(entry: Repoint) -> None:
    if any(entry.column in held for held in unique(Base.metadata.tables[entry.table])):
        assert entry.clash is not None, f"{entry.table} can hit a unique index: give it a clash"


@pytest.mark.parametrize(
    "entry", [entry for entry in REGISTRY if isinstance(entry, Special)], ids=lambda one: one.table
)
def test_what_is_special_is_done_where_the_registry_says(entry: Special) -> None:
    module = MODULES[entry.module]
    with open(module.__file__, encoding="utf-8") as source:  # noqa: PTH123 (a module's own file)
        text = source.read()

    assert entry.table in text or entry.table in {"usage_aggregates", "usage_quarter_hours"}


def test_tables_that_are_moved_are_moved_in_the_order_of_their_names() -> None:
    """So that two merges that meet take rows in one order."""
    tables = [entry.table for entry in merge_registry.REGISTRY]

    assert tables == sorted(tables)


def unique(table: Table) -> Iterator[set[str]]:
    """The columns of each key, unique index and exclusion of a table."""
    yield {column.name for column in table.primary_key}
    for index in table.indexes:
        if index.unique:
            yield {column.name for column in index.columns if isinstance(column, Column)}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield {column.name for column in constraint.columns}
        if isinstance(constraint, ExcludeConstraint):
            yield {column.name for column in constraint.columns if isinstance(column, Column)}

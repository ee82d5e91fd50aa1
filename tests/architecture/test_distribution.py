"""What docs/scaling.md says of keys, if Citus spread the tenants, is what the tables have."""

import importlib
import pkgutil
from pathlib import Path

from sqlalchemy import ForeignKeyConstraint, Index, Table, UniqueConstraint

import models
from models.base import Base

TENANT = "tenant_id"


def tables() -> list[Table]:
    for module in pkgutil.iter_modules(models.__path__, "models."):
        importlib.import_module(module.name)
    return list(Base.metadata.sorted_tables)


def unique(table: Table) -> list[UniqueConstraint | Index]:
    constraints = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    return [*constraints, *(index for index in table.indexes if index.unique)]


def without_tenant(constraint: UniqueConstraint | Index) -> bool:
    return TENANT not in {column.name for column in constraint.columns}


def foreign_keys(table: Table) -> list[ForeignKeyConstraint]:
    return [each for each in table.constraints if isinstance(each, ForeignKeyConstraint)]


def test_the_document_counts_keys_as_they_are(checkout: Path) -> None:
    own = [table for table in tables() if TENANT in table.c]
    keyed = [table for table in own if TENANT in table.primary_key.columns]
    apart = [each for table in own for each in unique(table) if without_tenant(each)]
    between = [
        key
        for table in own
        for key in foreign_keys(table)
        if TENANT in key.referred_table.c and TENANT not in {column.name for column in key.columns}
    ]
    said = " ".join((checkout / "docs" / "scaling.md").read_text(encoding="utf-8").split())

    for fact in (
        f"{len(own)} of {len(tables())} tables have a `tenant_id`",
        f"{len(keyed)} of them have it in their primary key",
        f"{len(apart)} unique constraints",
        f"{len(between)} foreign keys",
    ):
        assert fact in said

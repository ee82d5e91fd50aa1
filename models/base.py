"""What every table shares: the declarative base, constraint names, column types."""

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    MetaData,
    Numeric,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Base(DeclarativeBase):
    """The base of every table: aware timestamps, exact numbers, named constraints."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a class attribute)
        dt.datetime: DateTime(timezone=True),
        Decimal: Numeric(),
        UUID: Uuid(),
        str: Text(),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(BigInteger()),
        list[dt.datetime]: ARRAY(DateTime(timezone=True)),
    }


def one_of(column: str, states: type[StrEnum] | Iterable[str]) -> CheckConstraint:
    """Return a CHECK that a text column holds one of an enum's values."""
    values = ", ".join(f"'{value}'" for value in states)
    return CheckConstraint(f"{column} IN ({values})", name=column)


def text_key(column: str, *, longest: int) -> CheckConstraint:
    """Return a CHECK for a key chosen by people: 1 to `longest` characters, none a control."""
    return CheckConstraint(
        f"length({column}) BETWEEN 1 AND {longest} AND {column} !~ '[[:cntrl:]]'", name=column
    )


def metadata_column() -> MappedColumn[dict[str, Any]]:
    """Return the column for a producer's own data about a row.

    The attribute is called `details`: SQLAlchemy owns `metadata`.
    """
    return mapped_column("metadata", JSONB(), server_default=text("'{}'"))

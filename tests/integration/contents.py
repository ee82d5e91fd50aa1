"""What tables hold, to see whether anything has changed."""

from collections.abc import Iterable

from sqlalchemy import Connection, Engine, text

from models.base import Base

TABLES_WITH_ROWS = " UNION ALL ".join(
    f"SELECT '{table}' WHERE EXISTS (TABLE {table})" for table in Base.metadata.tables
)


def tables_with_rows(connection: Connection) -> list[str]:
    """Most tables are empty, and to read each of them costs more than this one question."""
    return list(connection.scalars(text(TABLES_WITH_ROWS)))


def rows_of(engine: Engine, tables: Iterable[str]) -> dict[str, list[str]]:
    """Every row of each table, as PostgreSQL writes it, sorted: one question for all tables."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    query = " UNION ALL ".join(
        f"SELECT '{table}', whole_row::text FROM {table} AS whole_row"  # noqa: S608 (our tables)
        for table in found
    )
    with engine.connect() as connection:
        for table, row in connection.execute(text(query)):
            found[table].append(row)
    return {table: sorted(rows) for table, rows in found.items()}

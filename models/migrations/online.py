"""What a migration does to tables that are in use, so that nobody has to wait for it."""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import text

LEFTOVER = text("""
    SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid
""")


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Make an index while others write: CREATE INDEX CONCURRENTLY.

    To be the last step of a migration that does nothing else: it ends the migration's transaction.
    It waits for every older transaction and, unlike other steps, as long as it takes: nobody waits
    for it. What a try that was interrupted left behind is thrown away first.

    Args:
        options: of Alembic's `create_index`, such as `postgresql_where` or `unique`.
    """
    context = op.get_context()
    if context.opts.get("from_empty"):
        op.create_index(name, table, columns, **options)
        return
    with context.autocommit_block():
        op.execute("SET lock_timeout = 0")
        if context.as_sql or op.get_bind().execute(LEFTOVER, {"name": name}).first():
            op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
        op.create_index(
            name, table, columns, postgresql_concurrently=True, if_not_exists=True, **options
        )
        op.execute("RESET lock_timeout")


def validate(table: str, constraints: Sequence[str]) -> None:
    """Read the rows of a table against constraints that were added NOT VALID, while others write.

    To be the last step of a migration all of which may be done again: it ends its transaction.
    """
    context = op.get_context()
    statements = [f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}" for name in constraints]
    if context.opts.get("from_empty"):
        for statement in statements:
            op.execute(statement)
        return
    with context.autocommit_block():
        for statement in statements:
            op.execute(statement)

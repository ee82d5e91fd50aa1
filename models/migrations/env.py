"""Alembic's entry: runs migrations on the connection it is handed, or prints their SQL."""

from alembic import context
from sqlalchemy import Connection, text

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
    notice,
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
from models.migrations import MIGRATION_LOCK

TABLES = (
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
    notice,
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
"""Imported so that the metadata is whole."""


def _run_on(connection: Connection) -> None:
    # Ends with the transaction; a migration that can not get a lock in time fails instead of
    # queueing every other query behind it.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def _print() -> None:
    context.configure(
        dialect_name="postgresql",
        # Of the styles the one that leaves a % in a function's body alone.
        dialect_opts={"paramstyle": "named"},
        target_metadata=Base.metadata,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _print()
else:
    _run_on(context.config.attributes["connection"])

"""Alembic's entry: runs migrations on the connection it is handed, or prints their SQL."""

from alembic import context
from sqlalchemy import Connection

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
    # A transaction for each: the locks of the first are not held until the last is done, and one
    # that can not have its lock costs those before it nothing. The connection's timeouts are set
    # by whoever made it.
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
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
        transaction_per_migration=True,
        from_empty=context.config.attributes.get("from_empty", False),
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _print()
else:
    _run_on(context.config.attributes["connection"])

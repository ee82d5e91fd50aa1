"""By which names tenants are known, which of them became one, and what came from before."""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of

LEGACY_KINDS = ("identity", "balance", "subscription")


class TenantIdentity(Base):
    """A name that a provider knows a tenant by, such as a user's id at a sign-in service."""

    __tablename__ = "tenant_identities"
    __table_args__ = (
        CheckConstraint("provider ~ '^[a-z0-9][a-z0-9._-]{0,63}$'", name="provider"),
        CheckConstraint(
            "length(external_id) BETWEEN 1 AND 255 AND external_id !~ '[[:cntrl:]]'",
            name="external_id",
        ),
        Index("ix_tenant_identities_tenant_id", "tenant_id"),
    )

    provider: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class TenantMerge(Base):
    """A tenant became part of another one: `source_id` is an alias from `merged_at` on.

    Its usage that is not billed yet follows in chunks: so far up to the event (`after_metric`,
    `after_at`, `after_id`), until `usage_moved_at`. `moved` counts rows by table.
    """

    __tablename__ = "tenant_merges"
    __table_args__ = (
        CheckConstraint("source_id <> target_id", name="two"),
        # A tenant is merged once.
        Index("uq_tenant_merges_source_id", "source_id", unique=True),
        Index("ix_tenant_merges_target_id", "target_id"),
        # What is still to follow, which is little.
        Index(
            "ix_tenant_merges_open", "merged_at", postgresql_where=text("usage_moved_at IS NULL")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    target_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    reason: Mapped[str | None]
    actor: Mapped[str | None]
    moved: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    merged_at: Mapped[dt.datetime]
    after_metric: Mapped[str] = mapped_column(server_default=text("''"))
    after_at: Mapped[dt.datetime | None]
    after_id: Mapped[UUID | None]
    events_moved: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    events_duplicate: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    events_conflict: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    events_left: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    usage_moved_at: Mapped[dt.datetime | None]


class LegacyRow(Base):
    """A row of a system before this one that was taken over, by its id there, and as what."""

    __tablename__ = "legacy_rows"
    __table_args__ = (
        one_of("kind", LEGACY_KINDS),
        CheckConstraint("length(migration_source_id) BETWEEN 1 AND 128", name="source_id"),
        Index("ix_legacy_rows_tenant_id", "tenant_id"),
    )

    kind: Mapped[str] = mapped_column(primary_key=True)
    migration_source_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    row_hash: Mapped[bytes] = mapped_column(LargeBinary)
    made_id: Mapped[str | None]
    imported_at: Mapped[dt.datetime]

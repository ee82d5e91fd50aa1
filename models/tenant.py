"""Who is billed."""

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, text_key


class Tenant(Base):
    """A billed party. Created by its first usage event if nobody has introduced it before.

    `usage_version` is where the versions of new totals begin: above those of the totals that were
    dropped when the time zone changed. A tenant that was merged into another one is an alias of it:
    `merged_into` is that tenant, which is never an alias itself.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        text_key("tenant_id", longest=64),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("merged_into <> tenant_id", name="merged_into"),
        # Ingest asks which of its tenants are aliases: nearly always none, of very few.
        Index("ix_tenants_merged", "tenant_id", postgresql_where=text("merged_into IS NOT NULL")),
        # The aliases of a tenant.
        Index(
            "ix_tenants_merged_into",
            "merged_into",
            postgresql_where=text("merged_into IS NOT NULL"),
        ),
    )

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    currency: Mapped[str] = mapped_column(server_default=text("'USD'"))
    # What an invoice is addressed to, several lines, and the tax number printed on it.
    address: Mapped[str | None]
    tax_number: Mapped[str | None]
    details: Mapped[dict[str, Any]] = metadata_column()
    usage_version: Mapped[int] = mapped_column(server_default=text("0"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    merged_into: Mapped[str | None] = mapped_column(ForeignKey("tenants.tenant_id"))
    erased_at: Mapped[dt.datetime | None]


class TenantZone(Base):
    """A zone that a tenant was in until an instant: the days of then stay as they were.

    Kept only of tenants that had been billed by then; whoever had not, had a wrong zone.
    """

    __tablename__ = "tenant_zones"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    left_at: Mapped[dt.datetime] = mapped_column(primary_key=True)
    timezone: Mapped[str]

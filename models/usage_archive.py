"""Usage that left the database: how far, into which files, and which keys it had."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of
from models.rules.states import ArchiveState


class UsageHorizon(Base):
    """Up to when a tenant's usage is closed: nothing before is recorded, voided or counted again.

    What was used before may have left the database, and its totals stay as they are. Whoever
    records or voids usage holds this table (`horizon.hold`); whoever closes some waits for them.
    No row: nothing of the tenant was ever closed, which is what ingest nearly always finds.
    """

    __tablename__ = "usage_horizons"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    closed_until: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class UsageArchive(Base):
    """Closed usage of a tenant in (a part of) a local month, and the file that holds it.

    A month of many events has several parts: each holds those that follow, by (metric, at, id),
    the event at which the one before it ends. What is said of the file is of its compressed bytes
    (`byte_count`, `sha256`) and of its events.
    """

    __tablename__ = "usage_archives"
    __table_args__ = (
        one_of("state", ArchiveState),
        CheckConstraint("period_start < period_end", name="period"),
        CheckConstraint("part >= 1", name="part"),
        CheckConstraint(
            "(after_metric IS NULL) = (part = 1) AND (after_at IS NULL) = (part = 1) "
            "AND (after_id IS NULL) = (part = 1)",
            name="after",
        ),
        CheckConstraint(
            "(state = 'due') = (written_at IS NULL) AND (state = 'due') = (name IS NULL) "
            "AND (state = 'due') = (sha256 IS NULL)",
            name="written_at",
        ),
        CheckConstraint(
            "(state IN ('purged', 'forgotten')) = (purged_at IS NOT NULL)", name="purged_at"
        ),
        CheckConstraint("(state = 'forgotten') = (forgotten_at IS NOT NULL)", name="forgotten_at"),
        # Closing a month twice gives its archive once.
        Index(
            "uq_usage_archives_tenant_id_period_start_part",
            "tenant_id",
            "period_start",
            "part",
            unique=True,
        ),
        Index("uq_usage_archives_name", "name", unique=True),
        # What there is to do is found without reading years of what is done.
        Index(
            "ix_usage_archives_open",
            "state",
            "id",
            postgresql_where=text("state IN ('due', 'written', 'verified')"),
        ),
        Index("ix_usage_archives_purged", "purged_at", postgresql_where=text("state = 'purged'")),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]
    timezone: Mapped[str]
    part: Mapped[int] = mapped_column(server_default=text("1"))
    after_metric: Mapped[str | None]
    after_at: Mapped[dt.datetime | None]
    after_id: Mapped[UUID | None]
    state: Mapped[str] = mapped_column(server_default=text("'due'"))
    name: Mapped[str | None]
    event_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    byte_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    totals: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    first_at: Mapped[dt.datetime | None]
    last_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    written_at: Mapped[dt.datetime | None]
    purged_at: Mapped[dt.datetime | None]
    forgotten_at: Mapped[dt.datetime | None]


class UsagePurgedKey(Base):
    """What is left of a purged event: enough to tell its duplicate from a conflict.

    No foreign key to the archive, for the reason in docs/decisions/0003-usage-event-key.md.
    """

    __tablename__ = "usage_purged_keys"
    __table_args__ = (
        # Keys come and go archive by archive, so a few bytes for each range of pages find them.
        Index("ix_usage_purged_keys_archive_id", "archive_id", postgresql_using="brin"),
    )

    # In an order that wastes no space between columns.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]
    metadata_hash: Mapped[int] = mapped_column(BigInteger)
    archive_id: Mapped[int]
    is_at_arrival: Mapped[bool]
    amount: Mapped[Decimal]

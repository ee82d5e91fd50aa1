"""What was used, which days that touched, and the totals."""

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of, text_key

LONGEST_METRIC = 64
LONGEST_IDEMPOTENCY_KEY = 128


class Granularity(StrEnum):
    """How long the period of an aggregate is, in the tenant's local time."""

    day = "day"
    month = "month"


class UsageEvent(Base):
    """An immutable fact that something was used. UPDATE, DELETE and TRUNCATE are refused.

    `id` is `usage_event_id(tenant_id, metric, idempotency_key)`: a 16-byte hash of the three is
    unique exactly when they are, and makes the only unique index a third of the size
    (docs/decisions/0003-usage-event-key.md). No foreign key to tenants for the same reason: the
    one statement that inserts events makes the tenant first.
    """

    __tablename__ = "usage_events"
    __table_args__ = (
        text_key("metric", longest=LONGEST_METRIC),
        text_key("idempotency_key", longest=LONGEST_IDEMPOTENCY_KEY),
        CheckConstraint("abs(amount) < 1e18 AND scale(amount) <= 12", name="amount"),
        # Re-counting one day of one metric reads one contiguous range.
        Index("ix_usage_events_tenant_id_metric_at", "tenant_id", "metric", "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    metric: Mapped[str]
    idempotency_key: Mapped[str]
    amount: Mapped[Decimal]
    at: Mapped[dt.datetime]
    received_at: Mapped[dt.datetime]
    details: Mapped[dict[str, Any]] = metadata_column()


class UsageTouchedDay(Base):
    """A log of what ingest touched since the last roll-up: append-only, deleted when counted.

    The span `[first_at, last_at]` lies within a UTC day, or is one old local day after a change of
    the tenant's zone; the roll-up works out which of the tenant's local days it meets. No unique
    key: ingest transactions never wait for one another.
    """

    __tablename__ = "usage_touched_days"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[str]
    metric: Mapped[str]
    first_at: Mapped[dt.datetime]
    last_at: Mapped[dt.datetime]


class UsageAggregate(Base):
    """The absolute total of one metric of one tenant in one period; recomputed, never added to."""

    __tablename__ = "usage_aggregates"
    __table_args__ = (
        one_of("granularity", Granularity),
        CheckConstraint("period_start < period_end", name="period"),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    granularity: Mapped[str] = mapped_column(primary_key=True)
    period_start: Mapped[dt.datetime] = mapped_column(primary_key=True)
    period_end: Mapped[dt.datetime]
    total: Mapped[Decimal] = mapped_column(server_default=text("0"))
    event_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    version: Mapped[int] = mapped_column(server_default=text("0"))
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

"""What was used, which days that touched, how it is counted, and the totals."""

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of, text_key
from models.rules.meter import Aggregation, RoundingMode

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
        # Re-counting one day of one metric reads one contiguous range, and finds the amounts there:
        # a third of the time of reading the events, which lie as they arrived.
        Index(
            "ix_usage_events_tenant_id_metric_at",
            "tenant_id",
            "metric",
            "at",
            postgresql_include=["amount"],
        ),
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

    A row holds many spans, as arrays of one length. The span `[first, last]` of a tenant's metric
    lies within an hour, or is a day that is to be counted as a whole; the roll-up works out which
    of the tenant's local days it meets. No unique key: ingest transactions never
    wait for one another.
    """

    __tablename__ = "usage_touched_days"
    __table_args__ = (
        CheckConstraint(
            "cardinality(tenant_ids) > 0 AND cardinality(metrics) = cardinality(tenant_ids) "
            "AND cardinality(firsts) = cardinality(tenant_ids) "
            "AND cardinality(lasts) = cardinality(tenant_ids)",
            name="lengths",
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_ids: Mapped[list[str]]
    metrics: Mapped[list[str]]
    firsts: Mapped[list[dt.datetime]]
    lasts: Mapped[list[dt.datetime]]


class UsageAggregate(Base):
    """The absolute total of one metric of one tenant in one period; recomputed, never added to.

    A day that is full is the sum of its quarter hours. Those before `quarter_hours_until` are
    counted, as of `quarter_hours_version`: who counted the day otherwise has raised `version`.
    """

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
    meter_definition: Mapped[int] = mapped_column(server_default=text("0"))
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    quarter_hours_until: Mapped[dt.datetime | None]
    quarter_hours_version: Mapped[int | None]


class UsageQuarterHour(Base):
    """What one metric of one tenant came to in a quarter of an hour of a day that is full.

    Only what was touched of such a day is counted again. The first begins when the day does, and
    lasts to the next quarter of the clock. No foreign key: the day has one.
    """

    __tablename__ = "usage_quarter_hours"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    starts_at: Mapped[dt.datetime] = mapped_column(primary_key=True)
    total: Mapped[Decimal]
    event_count: Mapped[int] = mapped_column(BigInteger)


class UsageVoid(Base):
    """An event that does not count any more, and why. The event stays. Append-only.

    No foreign key to the event, for the reason in docs/decisions/0003-usage-event-key.md: the
    statement that voids one reads it. `tenant_id`, `metric` and `at` are the event's.
    """

    __tablename__ = "usage_voids"
    __table_args__ = (
        CheckConstraint("length(reason) BETWEEN 1 AND 500", name="reason"),
        # Whether a day has any voided event at all: nearly none has, and is counted without looking
        # at each event.
        Index("ix_usage_voids_tenant_id_metric_at", "tenant_id", "metric", "at"),
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    metric: Mapped[str]
    at: Mapped[dt.datetime]
    reason: Mapped[str]
    actor: Mapped[str | None]
    voided_at: Mapped[dt.datetime]


class Meter(Base):
    """How a metric is counted. A metric without a meter is summed.

    `version` counts all changes; `definition` those of what is counted, and a total says by which
    it was counted. While `recount_after` is set, the open days of the tenants after it are still
    to be counted anew.
    """

    __tablename__ = "meters"
    __table_args__ = (
        text_key("metric", longest=LONGEST_METRIC),
        one_of("aggregation", Aggregation),
        one_of("rounding_mode", RoundingMode),
        CheckConstraint("aggregation <> 'count' OR value_field IS NULL", name="value_field"),
        CheckConstraint("jsonb_typeof(filters) = 'object'", name="filters"),
        CheckConstraint(
            "(rounding_decimals IS NULL) = (rounding_mode IS NULL) "
            "AND coalesce(rounding_decimals BETWEEN 0 AND 12, true)",
            name="rounding_decimals",
        ),
    )

    metric: Mapped[str] = mapped_column(primary_key=True)
    aggregation: Mapped[str]
    unit: Mapped[str | None]
    value_field: Mapped[str | None]
    filters: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    rounding_decimals: Mapped[int | None] = mapped_column(SmallInteger)
    rounding_mode: Mapped[str | None]
    allow_corrections: Mapped[bool] = mapped_column(server_default=text("false"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    definition: Mapped[int] = mapped_column(server_default=text("0"))
    recount_after: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

"""Quotas: who may use how much of a metric, and how much of it is used."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of, text_key
from models.rules.quota import Window


class Entitlement(Base):
    """The right to use a metric, in each day or month, up to a limit (empty: without one).

    It belongs to a plan, and so to whoever is on it, or to one tenant, whose own stands in for
    those of all plans. `effective_at` and `ended_at` are half-open.
    """

    __tablename__ = "entitlements"
    __table_args__ = (
        text_key("metric", longest=64),
        one_of("window_unit", Window),
        CheckConstraint("num_nonnulls(plan_key, tenant_id) = 1", name="owner"),
        CheckConstraint("limit_amount >= 0 AND scale(limit_amount) <= 12", name="limit_amount"),
        CheckConstraint("effective_at < ended_at", name="effective"),
        CheckConstraint("NOT (per_seat AND tenant_id IS NOT NULL)", name="per_seat"),
        # No two versions of one right at the same instant. Of another owner's column all are NULL,
        # and NULL is equal to nothing.
        *(
            ExcludeConstraint(
                (owner, "="),
                ("metric", "="),
                ("window_unit", "="),
                (func.tstzrange(text("effective_at"), text("ended_at")), "&&"),
                name=f"ex_entitlements_one_version_at_a_time_of_a_{noun}",
                using="gist",
            )
            for owner, noun in (("plan_key", "plan"), ("tenant_id", "tenant"))
        ),
        # Each use asks what its tenant may use: by plan, and of the tenant's own.
        Index(
            "ix_entitlements_plan_key_metric",
            "plan_key",
            "metric",
            postgresql_where=text("plan_key IS NOT NULL"),
        ),
        Index(
            "ix_entitlements_tenant_id_metric",
            "tenant_id",
            "metric",
            postgresql_where=text("tenant_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_key: Mapped[str | None] = mapped_column(ForeignKey("plans.plan_key"))
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.tenant_id"))
    metric: Mapped[str]
    window_unit: Mapped[str]
    limit_amount: Mapped[Decimal | None]
    is_soft: Mapped[bool] = mapped_column(server_default=text("false"))
    per_seat: Mapped[bool] = mapped_column(server_default=text("false"))
    effective_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class QuotaMetric(Base):
    """A metric that some entitlement is or was about: ingest logs what arrives of it."""

    __tablename__ = "quota_metrics"

    metric: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class QuotaCounter(Base):
    """How much of a metric a tenant has used in a window: the sum of its events' amounts.

    Exact together with the arrivals that lie in the window. What it says can be counted again from
    the events; all that only it knows is when subscribers were told that the limit was exceeded.
    """

    __tablename__ = "quota_counters"
    __table_args__ = (
        one_of("window_unit", Window),
        CheckConstraint("window_start < window_end", name="window"),
        # The nightly run forgets windows that are over.
        Index("ix_quota_counters_window_end", "window_end"),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    window_start: Mapped[dt.datetime] = mapped_column(primary_key=True)
    window_unit: Mapped[str] = mapped_column(primary_key=True)
    window_end: Mapped[dt.datetime]
    used: Mapped[Decimal]
    exceeded_at: Mapped[dt.datetime | None]
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class QuotaArrival(Base):
    """Usage that ingest recorded and no counter has yet: append-only, deleted when counted.

    A row is what one transaction recorded of a tenant's metric in the quarter of an hour that
    begins `at`: since 1980 the days of every time zone begin with one. No unique key, so that
    ingest transactions never wait for one another.
    """

    __tablename__ = "quota_arrivals"
    __table_args__ = (Index("ix_quota_arrivals_tenant_id_metric", "tenant_id", "metric"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[str]
    metric: Mapped[str]
    at: Mapped[dt.datetime]
    amount: Mapped[Decimal]

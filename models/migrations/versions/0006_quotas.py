"""Quotas: rights to use a metric, counters of what is used, and what ingest leaves for them.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "entitlements",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plan_key", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window_unit", sa.Text(), nullable=False),
        sa.Column("limit_amount", sa.Numeric(), nullable=True),
        sa.Column("is_soft", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("per_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("length(metric) BETWEEN 1 AND 64 AND metric !~ '[[:cntrl:]]'", name=op.f("ck_entitlements_metric")),
        sa.CheckConstraint("window_unit IN ('day', 'month')", name=op.f("ck_entitlements_window_unit")),
        sa.CheckConstraint("num_nonnulls(plan_key, tenant_id) = 1", name=op.f("ck_entitlements_owner")),
        sa.CheckConstraint("limit_amount >= 0 AND scale(limit_amount) <= 12", name=op.f("ck_entitlements_limit_amount")),
        sa.CheckConstraint("effective_at < ended_at", name=op.f("ck_entitlements_effective")),
        sa.CheckConstraint("NOT (per_seat AND tenant_id IS NOT NULL)", name=op.f("ck_entitlements_per_seat")),
        postgresql.ExcludeConstraint(
            (sa.column("plan_key"), "="), (sa.column("metric"), "="), (sa.column("window_unit"), "="),
            (sa.text("tstzrange(effective_at, ended_at)"), "&&"),
            using="gist", name="ex_entitlements_one_version_at_a_time_of_a_plan"),
        postgresql.ExcludeConstraint(
            (sa.column("tenant_id"), "="), (sa.column("metric"), "="), (sa.column("window_unit"), "="),
            (sa.text("tstzrange(effective_at, ended_at)"), "&&"),
            using="gist", name="ex_entitlements_one_version_at_a_time_of_a_tenant"),
        sa.ForeignKeyConstraint(["plan_key"], ["plans.plan_key"], name=op.f("fk_entitlements_plan_key")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_entitlements_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entitlements")),
    )
    op.create_index("ix_entitlements_plan_key_metric", "entitlements", ["plan_key", "metric"], postgresql_where=sa.text("plan_key IS NOT NULL"))
    op.create_index("ix_entitlements_tenant_id_metric", "entitlements", ["tenant_id", "metric"], postgresql_where=sa.text("tenant_id IS NOT NULL"))
    op.create_table(
        "quota_metrics",
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("metric", name=op.f("pk_quota_metrics")),
    )
    op.create_table(
        "quota_counters",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_unit", sa.Text(), nullable=False),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used", sa.Numeric(), nullable=False),
        sa.Column("exceeded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("window_unit IN ('day', 'month')", name=op.f("ck_quota_counters_window_unit")),
        sa.CheckConstraint("window_start < window_end", name=op.f("ck_quota_counters_window")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_quota_counters_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "metric", "window_start", "window_unit", name=op.f("pk_quota_counters")),
    )
    op.create_index("ix_quota_counters_window_end", "quota_counters", ["window_end"])
    op.create_table(
        "quota_arrivals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_arrivals")),
    )
    op.create_index("ix_quota_arrivals_tenant_id_metric", "quota_arrivals", ["tenant_id", "metric"])

"""Invoices at a provider: how far each came, every try, tenants' ids there, its health.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def _at(name: str, *, nullable: bool = True, default: bool = False) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("now()") if default else None,
        nullable=nullable,
    )


def upgrade() -> None:
    op.create_table(
        "invoice_syncs",
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column(
            "done", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False
        ),
        _at("due_at", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("series", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        _at("leased_until"),
        _at("begun_at"),
        _at("synced_at"),
        sa.Column("version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _at("created_at", nullable=False, default=True),
        _at("updated_at", nullable=False, default=True),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'synced', 'failed')",
            name=op.f("ck_invoice_syncs_state"),
        ),
        sa.CheckConstraint(
            "(state = 'running') = (lease_token IS NOT NULL)",
            name=op.f("ck_invoice_syncs_lease_token"),
        ),
        sa.CheckConstraint(
            "(state = 'running') = (leased_until IS NOT NULL)",
            name=op.f("ck_invoice_syncs_leased_until"),
        ),
        sa.CheckConstraint(
            "state <> 'failed' OR code IS NOT NULL", name=op.f("ck_invoice_syncs_code")
        ),
        sa.CheckConstraint(
            "attempts >= 0 AND series > 0", name=op.f("ck_invoice_syncs_counts")
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_invoice_syncs_invoice_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_invoice_syncs_tenant_id")
        ),
        sa.PrimaryKeyConstraint("invoice_id", "provider", name=op.f("pk_invoice_syncs")),
    )
    op.create_index(
        "ix_invoice_syncs_due",
        "invoice_syncs",
        ["provider", "due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_invoice_syncs_running",
        "invoice_syncs",
        ["provider", "tenant_id"],
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_invoice_syncs_state", "invoice_syncs", ["state", "invoice_id"])
    op.create_table(
        "invoice_sync_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        _at("attempted_at", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_invoice_sync_attempts_invoice_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice_sync_attempts")),
    )
    op.create_index(
        "ix_invoice_sync_attempts_invoice_id", "invoice_sync_attempts", ["invoice_id", "id"]
    )
    op.create_table(
        "provider_customers",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=True),
        _at("begun_at"),
        _at("created_at", nullable=False, default=True),
        _at("updated_at", nullable=False, default=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_provider_customers_tenant_id")
        ),
        sa.PrimaryKeyConstraint("provider", "tenant_id", name=op.f("pk_provider_customers")),
    )
    op.create_table(
        "provider_health",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _at("hold_until"),
        _at("updated_at", nullable=False, default=True),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_provider_health_failures")),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_provider_health")),
    )
    op.execute(APPEND_ONLY)


APPEND_ONLY = """
    CREATE TRIGGER invoice_sync_attempts_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_sync_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""

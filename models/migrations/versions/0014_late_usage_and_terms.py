"""Late usage of numbered invoices, parked tenants, setup fees, commitments, trials.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "late_usage",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column(
            "noticed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_late_usage_invoice_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_late_usage_tenant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_late_usage")),
    )
    op.create_index("ix_late_usage_tenant_id", "late_usage", ["tenant_id"])
    op.create_table(
        "late_usage_credits",
        sa.Column("credit_note_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_late_usage_credits_amount_minor")),
        sa.ForeignKeyConstraint(
            ["credit_note_id"],
            ["credit_notes.id"],
            name=op.f("fk_late_usage_credits_credit_note_id"),
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id", "position"],
            ["invoice_lines.invoice_id", "invoice_lines.position"],
            name=op.f("fk_late_usage_credits_invoice_id"),
        ),
        sa.PrimaryKeyConstraint(
            "credit_note_id", "position", name=op.f("pk_late_usage_credits")
        ),
    )
    op.create_index("ix_late_usage_credits_invoice_id", "late_usage_credits", ["invoice_id"])
    op.create_table(
        "parked_tenants",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "parked_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "tried_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "stage IN ('invoicing', 'finalization', 'late_usage')",
            name=op.f("ck_parked_tenants_stage"),
        ),
        sa.CheckConstraint("tries > 0", name=op.f("ck_parked_tenants_tries")),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_parked_tenants_invoice_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_parked_tenants_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "stage", name=op.f("pk_parked_tenants")),
    )
    op.create_index(
        "ix_parked_tenants_waiting",
        "parked_tenants",
        ["parked_at", "tenant_id"],
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index(
        "ix_invoices_tenant_id_period_end", "invoices", ["tenant_id", "period_end"]
    )
    op.add_column("invoice_lines", sa.Column("adjusts_invoice_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_invoice_lines_adjusts_invoice_id"),
        "invoice_lines",
        "invoices",
        ["adjusts_invoice_id"],
        ["id"],
    )
    op.create_index(
        "ix_invoice_lines_adjusts_invoice_id",
        "invoice_lines",
        ["adjusts_invoice_id"],
        postgresql_where=sa.text("adjusts_invoice_id IS NOT NULL"),
    )
    op.add_column(
        "subscriptions", sa.Column("trial_ends_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("subscriptions", sa.Column("follows_id", sa.Uuid(), nullable=True))
    op.add_column(
        "subscriptions",
        sa.Column("owes_setup", sa.Boolean(), server_default=sa.text("true"), nullable=False),
    )
    op.create_foreign_key(
        op.f("fk_subscriptions_follows_id"),
        "subscriptions",
        "subscriptions",
        ["follows_id"],
        ["id"],
    )
    op.create_index(
        "uq_subscriptions_follows_id",
        "subscriptions",
        ["follows_id"],
        unique=True,
        postgresql_where=sa.text("follows_id IS NOT NULL"),
    )
    for name, table, condition in CHECKS:
        op.drop_constraint(op.f(name), table, type_="check", if_exists=True)
        op.create_check_constraint(op.f(name), table, condition)
    op.execute(APPEND_ONLY)


CHECKS = (
    ("ck_invoices_kind", "invoices", "kind IN ('subscription', 'closing')"),
    (
        "ck_invoice_lines_kind",
        "invoice_lines",
        "kind IN ('fixed', 'usage', 'setup', 'commitment', 'adjustment')",
    ),
    (
        "ck_invoice_lines_adjustment",
        "invoice_lines",
        "(kind = 'adjustment') = (adjusts_invoice_id IS NOT NULL)",
    ),
    ("ck_prices_kind", "prices", "kind IN ('fixed', 'usage', 'setup', 'commitment')"),
    ("ck_prices_usage_model", "prices", "kind <> 'usage' OR model <> 'fixed'"),
    (
        "ck_prices_single_fee",
        "prices",
        "kind NOT IN ('setup', 'commitment') OR model = 'fixed'",
    ),
    ("ck_subscriptions_trial_ends_at", "subscriptions", "effective_at < trial_ends_at"),
)

APPEND_ONLY = """
    CREATE TRIGGER late_usage_credits_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON late_usage_credits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""

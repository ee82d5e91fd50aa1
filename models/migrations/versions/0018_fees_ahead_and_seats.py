"""Fees charged ahead, with invoices between the ends of periods; seats that change in place.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "subscriptions", sa.Column("fees_due_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("subscriptions", sa.Column("fees_from", sa.Date(), nullable=True))
    for name, table, condition in CHECKS:
        op.drop_constraint(op.f(name), table, type_="check", if_exists=True)
        op.create_check_constraint(op.f(name), table, condition)
    op.create_table(
        "subscription_quantities",
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_subscription_quantities_quantity")),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["subscriptions.id"],
            name=op.f("fk_subscription_quantities_subscription_id"),
        ),
        sa.PrimaryKeyConstraint(
            "subscription_id", "effective_at", name=op.f("pk_subscription_quantities")
        ),
    )
    op.create_index(
        "ix_invoice_lines_ahead",
        "invoice_lines",
        ["subscription_id", "period_end"],
        postgresql_where=sa.text("details ? 'ahead_from'"),
    )


CHECKS = (
    ("ck_subscriptions_effective", "subscriptions", "effective_at <= ended_at"),
    (
        "ck_subscriptions_fees_due_at",
        "subscriptions",
        "(fees_due_at IS NULL) = (fees_from IS NULL)",
    ),
    ("ck_subscriptions_next_invoice_at", "subscriptions", "next_invoice_at <= fees_due_at"),
    ("ck_invoices_kind", "invoices", "kind IN ('subscription', 'closing', 'advance')"),
    (
        "ck_prices_fee_in_advance",
        "prices",
        "timing = 'arrears' OR kind IN ('fixed', 'setup')",
    ),
)

"""Holds on credit, debt, the order of burn by expiry, and what one use took.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "credit_balances",
        sa.Column("debt", sa.Numeric(), server_default=sa.text("0"), nullable=False),
    )
    op.create_check_constraint(op.f("ck_credit_balances_debt"), "credit_balances", "debt >= 0")
    op.create_index(
        "ix_credit_batches_spendable_by_expiry",
        "credit_batches",
        ["tenant_id", "product_key", "priority", "expires_at", "created_at", "id"],
        postgresql_where=sa.text("state = 'ACTIVE'"),
    )
    op.create_index(
        "ix_ledger_entries_uses",
        "ledger_entries",
        ["cause_id"],
        postgresql_where=sa.text("action IN ('consume', 'commit', 'overdraft', 'refund')"),
    )
    _create_reservations()
    _create_slices()


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("product_key", sa.Text(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'held'"), nullable=False),
        sa.Column("committed_amount", sa.Numeric(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("release_reason", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('held', 'committed', 'released', 'expired')",
            name=op.f("ck_reservations_state"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_reservations_amount")),
        sa.CheckConstraint("created_at < expires_at", name=op.f("ck_reservations_expires_at")),
        sa.CheckConstraint(
            "(state = 'held') = (closed_at IS NULL)", name=op.f("ck_reservations_closed_at")
        ),
        sa.CheckConstraint(
            "(state = 'committed') = (committed_amount IS NOT NULL) AND committed_amount >= 0",
            name=op.f("ck_reservations_committed_amount"),
        ),
        sa.ForeignKeyConstraint(
            ["product_key"], ["products.product_key"], name=op.f("fk_reservations_product_key")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_reservations_tenant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    held = sa.text("state = 'held'")
    for name, columns, where in (
        ("ix_reservations_expires_at_id", ["expires_at", "id"], held),
        ("ix_reservations_open", ["tenant_id", "product_key", "expires_at"], held),
        ("ix_reservations_tenant_id_id", ["tenant_id", "id"], None),
    ):
        op.create_index(name, "reservations", columns, postgresql_where=where)


def _create_slices() -> None:
    op.create_table(
        "reservation_slices",
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("nth", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_reservation_slices_amount")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["credit_batches.id"], name=op.f("fk_reservation_slices_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["reservation_id"],
            ["reservations.id"],
            name=op.f("fk_reservation_slices_reservation_id"),
        ),
        sa.PrimaryKeyConstraint("reservation_id", "nth", name=op.f("pk_reservation_slices")),
    )

"""Dispatch: hosts, ordered endpoints, rate limits, the health of endpoints beside them.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A hold stays; who had failed starts anew, and shows within five attempts whether it still does.
HOLDS = """
    INSERT INTO endpoint_health (endpoint_id, hold_until)
    SELECT id, hold_until FROM endpoints WHERE hold_until > now() AND state = 'enabled'
"""

# Small, and every row is written again and again: room on the page keeps that off the index.
NARROW = (
    "ALTER TABLE endpoint_health SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)"
)


def upgrade() -> None:
    op.create_table(
        "endpoint_health",
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("single", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("blocked_by", sa.BigInteger(), nullable=True),
        sa.Column("paced_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("review_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "condition",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_endpoint_health_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", name=op.f("pk_endpoint_health")),
    )
    op.create_index(
        "ix_endpoint_health_review_at",
        "endpoint_health",
        ["review_at"],
        unique=False,
        postgresql_where=sa.text("review_at IS NOT NULL"),
    )
    op.execute(NARROW)
    op.execute(HOLDS)
    op.drop_column("endpoints", "hold_until")
    op.drop_column("endpoints", "consecutive_failures")
    op.add_column(
        "endpoints",
        sa.Column(
            "host",
            sa.Text(),
            sa.Computed("split_part(url, '/', 3)", persisted=True),
            nullable=False,
        ),
    )
    op.add_column(
        "endpoints",
        sa.Column("ordered", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("endpoints", sa.Column("rate_per_minute", sa.Integer(), nullable=True))
    op.add_column(
        "endpoints",
        sa.Column("unsettled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_endpoints_rate_per_minute"), "endpoints", "rate_per_minute BETWEEN 1 AND 60000"
    )
    op.create_index(
        "ix_endpoints_unsettled",
        "endpoints",
        ["id"],
        unique=False,
        postgresql_where=sa.text("unsettled"),
    )
    op.add_column("deliveries", sa.Column("skip_reason", sa.Text(), nullable=True))

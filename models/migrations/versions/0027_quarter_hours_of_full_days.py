"""Days that are full are counted by quarter hours, of which only those that were touched.

Revision ID: 0027
Revises: 0026
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_quarter_hours",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("total", sa.Numeric(), nullable=False),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "metric", "starts_at", name=op.f("pk_usage_quarter_hours")
        ),
    )
    # Without a default: nothing is rewritten. The release before leaves them alone, and raises
    # `version` when it counts a day, which is how this one knows that it did.
    for column in (
        sa.Column("quarter_hours_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quarter_hours_version", sa.Integer(), nullable=True),
    ):
        op.add_column("usage_aggregates", column)

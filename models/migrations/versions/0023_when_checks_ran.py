"""When the nightly checks looked, and how much they found.

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "check_runs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("is_last", sa.Boolean(), nullable=False),
        sa.Column("findings", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "name IN ('usage', 'quotas', 'credit')", name=op.f("ck_check_runs_name")
        ),
        sa.PrimaryKeyConstraint("name", "began_at", "after", name=op.f("pk_check_runs")),
    )

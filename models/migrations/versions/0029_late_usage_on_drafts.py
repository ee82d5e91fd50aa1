"""Of late usage it is known whether drafts show it, so that these are computed anew while it comes.

Revision ID: 0029
Revises: 0028
"""

import sqlalchemy as sa
from alembic import op

from models.migrations import online

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

harmless = "The release before does not write the column; by its default a draft is looked at once."


def upgrade() -> None:
    # A constant default rewrites nothing. The index is made beside writers; if that is interrupted,
    # all of this comes again.
    op.add_column(
        "late_usage",
        sa.Column("drawn", sa.Boolean(), server_default=sa.false(), nullable=False),
        if_not_exists=True,
    )
    online.create_index(
        "ix_late_usage_not_drawn",
        "late_usage",
        ["tenant_id"],
        postgresql_where=sa.text("NOT drawn"),
    )

"""Events remember whose work told of them, and where it stood in a trace.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default: nothing is rewritten, and the lock is over at once.
    op.add_column("outbox_messages", sa.Column("correlation_id", sa.Text(), nullable=True))
    op.add_column("outbox_messages", sa.Column("traceparent", sa.Text(), nullable=True))

"""Drafts know their content by its fingerprint: computed again, most are found to be the same.

Revision ID: 0026
Revises: 0025
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default: nothing is rewritten, and the lock is over at once. A draft without one is
    # compared line by line.
    op.add_column("invoices", sa.Column("fingerprint", sa.Text(), nullable=True))

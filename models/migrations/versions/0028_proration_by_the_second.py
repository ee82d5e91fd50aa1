"""Plans may prorate their fees by the second.

Revision ID: 0028
Revises: 0027
"""

import sqlalchemy as sa
from alembic import op

from models.migrations import online

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

harmless = "The release before does not write the column, and its default passes the check."


def upgrade() -> None:
    # A constant default rewrites nothing. The last step is done beside others; if that is
    # interrupted, all of this comes again.
    op.add_column(
        "plans",
        sa.Column("proration", sa.Text(), server_default=sa.text("'day'"), nullable=False),
        if_not_exists=True,
    )
    op.drop_constraint(op.f(NAME), "plans", type_="check", if_exists=True)
    op.execute(
        f"ALTER TABLE plans ADD CONSTRAINT {NAME} CHECK (proration IN ('day', 'second')) NOT VALID"
    )
    online.validate("plans", [NAME])


NAME = "ck_plans_proration"

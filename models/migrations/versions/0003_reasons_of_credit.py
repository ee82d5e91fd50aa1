"""Every reason a ledger entry can have, and the order in which a product's batches pay.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ACTIONS = (
    "action IN ('grant', 'consume', 'commit', 'overdraft', 'repay', 'refund', 'exchange', "
    "'adjust', 'revoke', 'expire', 'transfer')"
)


def upgrade() -> None:
    op.drop_constraint(op.f("ck_ledger_entries_action"), "ledger_entries")
    op.create_check_constraint(op.f("ck_ledger_entries_action"), "ledger_entries", ACTIONS)
    op.add_column(
        "products",
        sa.Column("burn_policy", sa.Text(), server_default=sa.text("'fifo'"), nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_products_burn_policy"),
        "products",
        "burn_policy IN ('fifo', 'soonest_expiry_first')",
    )


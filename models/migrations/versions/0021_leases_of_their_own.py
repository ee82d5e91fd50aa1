"""Leases of deliveries in a table of their own: a claim writes to nothing else.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

LEASES = """
    INSERT INTO delivery_leases (delivery_id, endpoint_id, lease_token, leased_until)
    SELECT id, endpoint_id, lease_token, leased_until FROM deliveries WHERE state = 'sending'
"""

# By the index of leased rows: few, whatever there is.
PENDING = """
    UPDATE deliveries SET state = 'pending', lease_token = NULL, leased_until = NULL
    WHERE state = 'sending'
"""

# Every claim reads all of it, and nearly all of its rows are dead: they are to go soon.
SMALL = """
    ALTER TABLE delivery_leases SET (autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_threshold = -1)
"""


def upgrade() -> None:
    op.create_table(
        "delivery_leases",
        sa.Column("delivery_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_delivery_leases")),
    )
    op.execute(SMALL)
    op.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
    op.execute(LEASES)
    op.execute(PENDING)
    op.drop_index("ix_deliveries_leased", table_name="deliveries")
    # With the columns go the constraints on them alone; these name the state too.
    op.drop_constraint(op.f("ck_deliveries_lease_token"), "deliveries")
    op.drop_constraint(op.f("ck_deliveries_leased_until"), "deliveries")
    op.drop_column("deliveries", "lease_token")
    op.drop_column("deliveries", "leased_until")
    op.drop_constraint(op.f("ck_deliveries_state"), "deliveries")
    op.create_check_constraint(
        op.f("ck_deliveries_state"),
        "deliveries",
        "state IN ('pending', 'held', 'delivered', 'dead', 'cancelled')",
    )

"""The log of touched days holds the spans of a message in one row, as arrays.

Revision ID: 0004
Revises: 0003
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD = {"tenant_ids": "tenant_id", "metrics": "metric", "firsts": "first_at", "lasts": "last_at"}

NEW: tuple[sa.Column[Any], ...] = (
    sa.Column("tenant_ids", sa.ARRAY(sa.Text())),
    sa.Column("metrics", sa.ARRAY(sa.Text())),
    sa.Column("firsts", sa.ARRAY(sa.DateTime(timezone=True))),
    sa.Column("lasts", sa.ARRAY(sa.DateTime(timezone=True))),
)

LENGTHS = (
    "cardinality(tenant_ids) > 0 AND cardinality(metrics) = cardinality(tenant_ids) "
    "AND cardinality(firsts) = cardinality(tenant_ids) "
    "AND cardinality(lasts) = cardinality(tenant_ids)"
)


def upgrade() -> None:
    for column in NEW:
        op.add_column("usage_touched_days", column)
    kept = ", ".join(f"{name} = ARRAY[{old}]" for name, old in OLD.items())
    op.execute(f"UPDATE usage_touched_days SET {kept}")
    for name, old in OLD.items():
        op.alter_column("usage_touched_days", name, nullable=False)
        op.drop_column("usage_touched_days", old)
    op.create_check_constraint(op.f("ck_usage_touched_days_lengths"), "usage_touched_days", LENGTHS)

"""Deliveries can be looked up and replayed; refused messages hold no secret any more.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# What was kept of refused messages before secrets were left out. A payload is of type json, since
# jsonb takes no U+0000; of one that has it nothing else is kept: nobody can use it as it is.
SCRUB = """
    UPDATE rejected_messages SET
        payload = CASE WHEN position('\\u0000' IN payload::text) > 0
            THEN json_build_object('headers', '(not kept: it may be a secret)')
            ELSE (SELECT json_object_agg(key, CASE WHEN key = 'headers'
                      THEN to_json('(not kept: it may be a secret)'::text) ELSE value END)
                  FROM json_each(payload)) END,
        errors = (SELECT coalesce(json_agg(CASE WHEN fault ->> 'field' LIKE 'headers%'
                      THEN json_build_object('field', fault -> 'field', 'reason', fault -> 'reason')
                      ELSE fault END), '[]')
                  FROM json_array_elements(errors) AS fault)
    WHERE task = 'billing.create_endpoint' AND json_typeof(payload) = 'object'
      AND (payload -> 'headers')::text NOT IN ('null', '{}')
"""


def upgrade() -> None:
    op.add_column(
        "deliveries", sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index("ix_deliveries_endpoint_id", "deliveries", ["endpoint_id", "id"], unique=False)
    op.create_index(
        "ix_deliveries_dead",
        "deliveries",
        ["endpoint_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "ix_delivery_attempts_endpoint_id",
        "delivery_attempts",
        ["endpoint_id", "attempted_at"],
        unique=False,
    )
    op.execute(SCRUB)

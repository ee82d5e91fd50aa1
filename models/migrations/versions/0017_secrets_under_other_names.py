"""Refused messages hold no secret under a wrong name, in a URL, or within another message.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

KNOWN = (
    "url", "topics", "tenant_id", "operator", "description", "ordered", "rate_per_minute",
    "metadata", "signature", "idempotency_key", "as_of", "endpoint_id", "clear",
)

# As tasks/withholding.py keeps them from here on. A payload is of type json, since jsonb takes no
# U+0000; of one that has it, or is no object, nothing is kept: nobody can use it as it is.
SCRUB = f"""
    UPDATE rejected_messages SET
        payload = CASE WHEN json_typeof(payload) <> 'object'
                OR position('\\u0000' IN payload::text) > 0
            THEN json_build_object('payload', '(not kept: it may be a secret)')
            ELSE (SELECT coalesce(json_object_agg(key, CASE WHEN
                      value::text IN ('null', '""', '{{}}', '[]', 'false', '0')
                      OR task = 'billing.replay_rejected' AND key <> 'payload'
                      OR task <> 'billing.replay_rejected'
                         AND key IN ({', '.join(f"'{name}'" for name in KNOWN)})
                         AND NOT (key = 'url' AND value::text LIKE '%@%')
                      THEN value ELSE to_json('(not kept: it may be a secret)'::text) END), '{{}}')
                  FROM json_each(payload)) END,
        errors = (SELECT coalesce(json_agg(json_build_object(
                      'field', fault -> 'field', 'reason', fault -> 'reason')), '[]')
                  FROM json_array_elements(errors) AS fault)
    WHERE task IN ('billing.create_endpoint', 'billing.update_endpoint', 'billing.replay_rejected')
"""


def upgrade() -> None:
    op.execute(SCRUB)

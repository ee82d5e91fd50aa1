"""Every model of price: tiers, packages, percentages, blocks, capacity, what events say.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CHECKS = {
    "model": (
        "model IN ('fixed', 'per_unit', 'graduated', 'volume', 'package', 'percentage', "
        "'graduated_percentage', 'block', 'capacity', 'dynamic')"
    ),
    "single_amount": "(model IN ('fixed', 'per_unit')) = (unit_amount IS NOT NULL)",
    "params": "jsonb_typeof(params) = 'object'",
    "fee_model": (
        "kind = 'usage' OR model IN "
        "('fixed', 'per_unit', 'graduated', 'volume', 'package', 'block')"
    ),
    "usage_model": "kind = 'fixed' OR model <> 'fixed'",
}


def upgrade() -> None:
    op.drop_constraint(op.f("ck_prices_model"), "prices")
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_prices_{name}"), "prices", condition)

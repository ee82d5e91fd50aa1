"""What tenants want to hear of their credit, and what they were told.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('credit_notices',
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('low', sa.ARRAY(sa.Numeric()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('expiring_days', sa.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('seen', sa.Numeric(), nullable=False),
    sa.Column('version_seen', sa.BigInteger(), nullable=False),
    sa.Column('look_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_credit_notices_product_key')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_credit_notices_tenant_id')),
    sa.PrimaryKeyConstraint('tenant_id', 'product_key', name=op.f('pk_credit_notices'))
    )
    op.create_table('expiry_notices',
    sa.Column('batch_id', sa.Uuid(), nullable=False),
    sa.Column('days', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('told_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['credit_batches.id'], name=op.f('fk_expiry_notices_batch_id')),
    sa.PrimaryKeyConstraint('batch_id', 'days', name=op.f('pk_expiry_notices'))
    )

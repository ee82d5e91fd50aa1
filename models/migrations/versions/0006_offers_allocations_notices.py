"""Offers.

Revision ID: 0006
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('offers',
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), sa.Computed("'offer'", persisted=True), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('price', sa.Numeric(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=True),
    sa.Column('currency_product_key', sa.Text(), nullable=True),
    sa.Column('active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("sku = upper(sku)", name=op.f('ck_offers_upper')),
    sa.CheckConstraint("price >= 0 AND scale(price) <= 12", name=op.f('ck_offers_price')),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_offers_currency')),
    sa.CheckConstraint("(currency IS NULL) <> (currency_product_key IS NULL)", name=op.f('ck_offers_one_currency')),
    sa.ForeignKeyConstraint(['sku', 'kind'], ['catalog_keys.key', 'catalog_keys.kind'], name=op.f('fk_offers_sku')),
    sa.ForeignKeyConstraint(['currency_product_key'], ['products.product_key'], name=op.f('fk_offers_currency_product_key')),
    sa.PrimaryKeyConstraint('sku', name=op.f('pk_offers'))
    )
    op.create_table('offer_items',
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('position', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('quantity', sa.Numeric(), nullable=False),
    sa.Column('period', sa.Text(), nullable=False),
    sa.Column('period_value', sa.Integer(), nullable=True),
    sa.CheckConstraint("period IN ('hours', 'days', 'months', 'years', 'forever')", name=op.f('ck_offer_items_period')),
    sa.CheckConstraint("quantity > 0", name=op.f('ck_offer_items_quantity')),
    sa.CheckConstraint("(period = 'forever') = (period_value IS NULL) AND coalesce(period_value > 0, true)", name=op.f('ck_offer_items_period_value')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_offer_items_product_key')),
    sa.ForeignKeyConstraint(['sku'], ['offers.sku'], name=op.f('fk_offer_items_sku')),
    sa.PrimaryKeyConstraint('sku', 'position', name=op.f('pk_offer_items'))
    )
    op.add_column('credit_batches', sa.Column('revoked_reason', sa.Text(), nullable=True))
    op.add_column('credit_batches', sa.Column('revoked_by', sa.Text(), nullable=True))
    op.create_index('ix_credit_batches_tenant_id_id', 'credit_batches', ['tenant_id', 'id'], unique=False)

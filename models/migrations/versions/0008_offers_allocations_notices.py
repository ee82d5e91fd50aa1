"""Offers, decisions about batches, credit that plans give.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
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
    op.add_column('subscriptions', sa.Column('auto_renew', sa.Boolean(), server_default=sa.text('true'), nullable=False))
    op.create_table('plan_credits',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('plan_key', sa.Text(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('credit_limit', sa.Numeric(), nullable=False),
    sa.Column('validity_days', sa.Integer(), nullable=True),
    sa.Column('rollover', sa.Text(), server_default=sa.text("'none'"), nullable=False),
    sa.Column('rollover_cap', sa.Numeric(), nullable=True),
    sa.Column('prorate_first', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('effective_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("rollover IN ('none', 'capped', 'all')", name=op.f('ck_plan_credits_rollover')),
    sa.CheckConstraint("credit_limit > 0", name=op.f('ck_plan_credits_credit_limit')),
    sa.CheckConstraint("validity_days > 0", name=op.f('ck_plan_credits_validity_days')),
    sa.CheckConstraint("(rollover = 'capped') = (rollover_cap IS NOT NULL) AND coalesce(rollover_cap > 0, true)", name=op.f('ck_plan_credits_rollover_cap')),
    sa.CheckConstraint("rollover = 'none' OR validity_days IS NULL", name=op.f('ck_plan_credits_carried')),
    sa.CheckConstraint("effective_at < ended_at", name=op.f('ck_plan_credits_effective')),
    postgresql.ExcludeConstraint((sa.text('plan_key'), '='), (sa.text('product_key'), '='), (sa.text('tstzrange(effective_at, ended_at)'), '&&'), using='gist', name=op.f('ex_plan_credits_one_version_at_a_time')),
    sa.ForeignKeyConstraint(['plan_key'], ['plans.plan_key'], name=op.f('fk_plan_credits_plan_key')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_plan_credits_product_key')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_plan_credits'))
    )
    op.create_table('subscription_credits',
    sa.Column('subscription_id', sa.Uuid(), nullable=False),
    sa.Column('allocated_until', sa.Date(), nullable=True),
    sa.Column('next_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['subscription_id'], ['subscriptions.id'], name=op.f('fk_subscription_credits_subscription_id')),
    sa.PrimaryKeyConstraint('subscription_id', name=op.f('pk_subscription_credits'))
    )
    op.create_index('ix_subscription_credits_next_at', 'subscription_credits', ['next_at', 'subscription_id'], unique=False, postgresql_where=sa.text('next_at IS NOT NULL'))
    op.create_table('credit_allocations',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('subscription_id', sa.Uuid(), nullable=False),
    sa.Column('plan_credit_id', sa.Uuid(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('first_day', sa.Date(), nullable=False),
    sa.Column('after_day', sa.Date(), nullable=False),
    sa.Column('period_start', sa.DateTime(timezone=True), nullable=False),
    sa.Column('period_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('amount', sa.Numeric(), nullable=False),
    sa.Column('batch_id', sa.Uuid(), nullable=True),
    sa.Column('carried', sa.Numeric(), nullable=True),
    sa.Column('carried_batch_id', sa.Uuid(), nullable=True),
    sa.Column('withdrawn_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("amount >= 0 AND coalesce(carried >= 0, true)", name=op.f('ck_credit_allocations_amounts')),
    sa.CheckConstraint("period_start < period_end AND first_day < after_day", name=op.f('ck_credit_allocations_period')),
    sa.ForeignKeyConstraint(['batch_id'], ['credit_batches.id'], name=op.f('fk_credit_allocations_batch_id')),
    sa.ForeignKeyConstraint(['carried_batch_id'], ['credit_batches.id'], name=op.f('fk_credit_allocations_carried_batch_id')),
    sa.ForeignKeyConstraint(['plan_credit_id'], ['plan_credits.id'], name=op.f('fk_credit_allocations_plan_credit_id')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_credit_allocations_product_key')),
    sa.ForeignKeyConstraint(['subscription_id'], ['subscriptions.id'], name=op.f('fk_credit_allocations_subscription_id')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_credit_allocations_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_credit_allocations'))
    )
    op.create_index('uq_credit_allocations_subscription_id_product_key_first_day', 'credit_allocations', ['subscription_id', 'product_key', 'first_day'], unique=True, postgresql_where=sa.text('withdrawn_at IS NULL'))

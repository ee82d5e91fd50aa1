"""Orders, trials, referrals.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('orders',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'pending'"), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('total_minor', sa.BigInteger(), nullable=False),
    sa.Column('refundable_minor', sa.BigInteger(), nullable=True),
    sa.Column('paid_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('cancelled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('refunded_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('closing_reason', sa.Text(), nullable=True),
    sa.Column('closed_by', sa.Text(), nullable=True),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("(state = 'cancelled') = (cancelled_at IS NOT NULL)", name=op.f('ck_orders_cancelled_at')),
    sa.CheckConstraint("(state = 'refunded') = (refundable_minor IS NOT NULL) AND coalesce(refundable_minor BETWEEN 0 AND total_minor, true)", name=op.f('ck_orders_refundable_minor')),
    sa.CheckConstraint("(state = 'refunded') = (refunded_at IS NOT NULL)", name=op.f('ck_orders_refunded_at')),
    sa.CheckConstraint("(state IN ('paid', 'refunded')) = (paid_at IS NOT NULL)", name=op.f('ck_orders_paid_at')),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_orders_currency')),
    sa.CheckConstraint("state IN ('pending', 'paid', 'refunded', 'cancelled')", name=op.f('ck_orders_state')),
    sa.CheckConstraint('total_minor >= 0', name=op.f('ck_orders_total_minor')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_orders_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_orders'))
    )
    op.create_index('ix_orders_pending', 'orders', ['id'], unique=False, postgresql_where=sa.text("state = 'pending'"))
    op.create_index('ix_orders_tenant_id_id', 'orders', ['tenant_id', 'id'], unique=False)
    op.create_index('uq_orders_id_currency', 'orders', ['id', 'currency'], unique=True)
    op.create_table('order_items',
    sa.Column('order_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('quantity', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('unit_price_minor', sa.BigInteger(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('refundable_minor', sa.BigInteger(), nullable=True),
    sa.CheckConstraint('quantity > 0', name=op.f('ck_order_items_quantity')),
    sa.CheckConstraint('refundable_minor BETWEEN 0 AND amount_minor', name=op.f('ck_order_items_refundable_minor')),
    sa.CheckConstraint('unit_price_minor >= 0 AND amount_minor = unit_price_minor * quantity', name=op.f('ck_order_items_amount_minor')),
    sa.ForeignKeyConstraint(['order_id', 'currency'], ['orders.id', 'orders.currency'], name=op.f('fk_order_items_order_id')),
    sa.ForeignKeyConstraint(['sku'], ['offers.sku'], name=op.f('fk_order_items_sku')),
    sa.PrimaryKeyConstraint('order_id', 'position', name=op.f('pk_order_items'))
    )
    op.create_table('order_grants',
    sa.Column('order_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('nth', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('amount', sa.Numeric(), nullable=False),
    sa.Column('period', sa.Text(), nullable=False),
    sa.Column('period_value', sa.Integer(), nullable=True),
    sa.Column('batch_id', sa.Uuid(), nullable=True),
    sa.Column('revoked_amount', sa.Numeric(), nullable=True),
    sa.Column('held_amount', sa.Numeric(), nullable=True),
    sa.Column('lapsed_amount', sa.Numeric(), nullable=True),
    sa.CheckConstraint("(period = 'forever') = (period_value IS NULL) AND coalesce(period_value > 0, true)", name=op.f('ck_order_grants_period_value')),
    sa.CheckConstraint("period IN ('hours', 'days', 'months', 'years', 'forever')", name=op.f('ck_order_grants_period')),
    sa.CheckConstraint('amount > 0', name=op.f('ck_order_grants_amount')),
    sa.CheckConstraint('revoked_amount >= 0 AND held_amount >= 0 AND lapsed_amount >= 0 AND revoked_amount + held_amount + lapsed_amount <= amount', name=op.f('ck_order_grants_refund')),
    sa.ForeignKeyConstraint(['batch_id'], ['credit_batches.id'], name=op.f('fk_order_grants_batch_id')),
    sa.ForeignKeyConstraint(['order_id', 'position'], ['order_items.order_id', 'order_items.position'], name=op.f('fk_order_grants_order_id')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_order_grants_product_key')),
    sa.PrimaryKeyConstraint('order_id', 'position', 'nth', name=op.f('pk_order_grants'))
    )
    op.create_index('uq_order_grants_batch_id', 'order_grants', ['batch_id'], unique=True)
    op.create_table('order_payments',
    sa.Column('payment_method', sa.Text(), nullable=False),
    sa.Column('payment_id', sa.Text(), nullable=False),
    sa.Column('order_id', sa.Uuid(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("length(payment_id) BETWEEN 1 AND 128 AND payment_id !~ '[[:cntrl:]]'", name=op.f('ck_order_payments_payment_id')),
    sa.CheckConstraint("length(payment_method) BETWEEN 1 AND 64 AND payment_method !~ '[[:cntrl:]]'", name=op.f('ck_order_payments_payment_method')),
    sa.CheckConstraint('amount_minor > 0', name=op.f('ck_order_payments_amount_minor')),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], name=op.f('fk_order_payments_order_id')),
    sa.PrimaryKeyConstraint('payment_method', 'payment_id', name=op.f('pk_order_payments'))
    )
    op.create_index('uq_order_payments_order_id', 'order_payments', ['order_id'], unique=True)
    op.create_table('trials',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('batch_ids', sa.ARRAY(sa.Uuid()), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['sku'], ['offers.sku'], name=op.f('fk_trials_sku')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_trials_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_trials'))
    )
    op.create_index('ix_trials_tenant_id_id', 'trials', ['tenant_id', 'id'], unique=False)
    op.create_table('trial_identities',
    sa.Column('digest', sa.LargeBinary(), nullable=False),
    sa.Column('pepper_id', sa.Text(), nullable=False),
    sa.Column('trial_id', sa.Uuid(), nullable=False),
    sa.CheckConstraint('length(digest) = 32', name=op.f('ck_trial_identities_digest')),
    sa.ForeignKeyConstraint(['trial_id'], ['trials.id'], name=op.f('fk_trial_identities_trial_id')),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_trial_identities'))
    )
    op.create_index('ix_trial_identities_trial_id', 'trial_identities', ['trial_id'], unique=False)
    op.create_table('referral_programs',
    sa.Column('program_key', sa.Text(), nullable=False),
    sa.Column('referrer_sku', sa.Text(), nullable=True),
    sa.Column('referee_sku', sa.Text(), nullable=True),
    sa.Column('active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("length(program_key) BETWEEN 1 AND 64 AND program_key !~ '[[:cntrl:]]'", name=op.f('ck_referral_programs_program_key')),
    sa.CheckConstraint('num_nonnulls(referrer_sku, referee_sku) > 0', name=op.f('ck_referral_programs_rewards')),
    sa.ForeignKeyConstraint(['referee_sku'], ['offers.sku'], name=op.f('fk_referral_programs_referee_sku')),
    sa.ForeignKeyConstraint(['referrer_sku'], ['offers.sku'], name=op.f('fk_referral_programs_referrer_sku')),
    sa.PrimaryKeyConstraint('program_key', name=op.f('pk_referral_programs'))
    )
    op.create_table('referrals',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('referrer_tenant_id', sa.Text(), nullable=False),
    sa.Column('referee_tenant_id', sa.Text(), nullable=False),
    sa.Column('program_key', sa.Text(), nullable=False),
    sa.Column('order_id', sa.Uuid(), nullable=True),
    sa.Column('referrer_batch_ids', sa.ARRAY(sa.Uuid()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('referee_batch_ids', sa.ARRAY(sa.Uuid()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('claimed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint('(claimed_at IS NULL) = (order_id IS NULL)', name=op.f('ck_referrals_claimed_at')),
    sa.CheckConstraint('referrer_tenant_id <> referee_tenant_id', name=op.f('ck_referrals_two_tenants')),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], name=op.f('fk_referrals_order_id')),
    sa.ForeignKeyConstraint(['program_key'], ['referral_programs.program_key'], name=op.f('fk_referrals_program_key')),
    sa.ForeignKeyConstraint(['referee_tenant_id'], ['tenants.tenant_id'], name=op.f('fk_referrals_referee_tenant_id')),
    sa.ForeignKeyConstraint(['referrer_tenant_id'], ['tenants.tenant_id'], name=op.f('fk_referrals_referrer_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_referrals'))
    )
    op.create_index('ix_referrals_referrer_tenant_id_id', 'referrals', ['referrer_tenant_id', 'id'], unique=False)
    op.create_index('uq_referrals_order_id', 'referrals', ['order_id'], unique=True)
    op.create_index('uq_referrals_referee_tenant_id', 'referrals', ['referee_tenant_id'], unique=True)

"""Lay the tables.

Revision ID: 0001
Revises: 
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.create_table('catalog_keys',
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.CheckConstraint("kind IN ('product', 'offer')", name=op.f('ck_catalog_keys_kind')),
    sa.CheckConstraint("length(key) BETWEEN 1 AND 64 AND key !~ '[[:cntrl:]]'", name=op.f('ck_catalog_keys_key')),
    sa.CheckConstraint('key = upper(key)', name=op.f('ck_catalog_keys_upper')),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_catalog_keys'))
    )
    op.create_index('uq_catalog_keys_key_kind', 'catalog_keys', ['key', 'kind'], unique=True)
    op.create_table('delivery_attempts',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('attempted_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('delivery_id', sa.BigInteger(), nullable=False),
    sa.Column('endpoint_id', sa.Uuid(), nullable=False),
    sa.Column('attempt_number', sa.SmallInteger(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.Column('status', sa.SmallInteger(), nullable=True),
    sa.Column('latency_ms', sa.Integer(), nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('response_excerpt', sa.LargeBinary(), nullable=True),
    sa.PrimaryKeyConstraint('id', 'attempted_at', name=op.f('pk_delivery_attempts')),
    postgresql_partition_by='RANGE (attempted_at)'
    )
    op.create_index('ix_delivery_attempts_delivery_id', 'delivery_attempts', ['delivery_id'], unique=False)
    op.create_table('idempotency_keys',
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('operation', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('request_hash', sa.LargeBinary(), nullable=False),
    sa.Column('answer', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("length(key) BETWEEN 1 AND 128 AND key !~ '[[:cntrl:]]'", name=op.f('ck_idempotency_keys_key')),
    sa.PrimaryKeyConstraint('tenant_id', 'operation', 'key', name=op.f('pk_idempotency_keys'))
    )
    op.create_index('ix_idempotency_keys_created_at', 'idempotency_keys', ['created_at'], unique=False, postgresql_using='brin')
    op.create_table('invoice_series',
    sa.Column('series', sa.Text(), nullable=False),
    sa.Column('last_number', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint('last_number >= 0', name=op.f('ck_invoice_series_last_number')),
    sa.PrimaryKeyConstraint('series', name=op.f('pk_invoice_series'))
    )
    op.create_table('outbox_messages',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('schema_version', sa.SmallInteger(), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('truncated', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outbox_messages'))
    )
    op.create_table('plans',
    sa.Column('plan_key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('interval', sa.Text(), server_default=sa.text("'month'"), nullable=False),
    sa.Column('anchor', sa.Text(), server_default=sa.text("'calendar'"), nullable=False),
    sa.Column('active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("anchor IN ('calendar', 'anniversary')", name=op.f('ck_plans_anchor')),
    sa.CheckConstraint("interval IN ('day', 'week', 'month', 'quarter', 'year')", name=op.f('ck_plans_interval')),
    sa.CheckConstraint("length(plan_key) BETWEEN 1 AND 64 AND plan_key !~ '[[:cntrl:]]'", name=op.f('ck_plans_plan_key')),
    sa.PrimaryKeyConstraint('plan_key', name=op.f('pk_plans'))
    )
    op.create_table('rejected_messages',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('task', sa.Text(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=True),
    sa.Column('payload', postgresql.JSON(astext_type=sa.Text()), nullable=False),
    sa.Column('payload_hash', sa.LargeBinary(), nullable=False),
    sa.Column('code', sa.Text(), nullable=False),
    sa.Column('errors', postgresql.JSON(astext_type=sa.Text()), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'open'"), nullable=False),
    sa.Column('message_id', sa.Text(), nullable=True),
    sa.Column('seen_count', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('resolved_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('resolved_by', sa.Text(), nullable=True),
    sa.Column('replayed_as', sa.Uuid(), nullable=True),
    sa.CheckConstraint("state IN ('open', 'replayed', 'discarded')", name=op.f('ck_rejected_messages_state')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_rejected_messages'))
    )
    op.create_index('ix_rejected_messages_open', 'rejected_messages', ['id'], unique=False, postgresql_where=sa.text("state = 'open'"))
    op.create_index('uq_rejected_messages_task_payload_hash', 'rejected_messages', ['task', 'payload_hash'], unique=True, postgresql_where=sa.text("state = 'open'"))
    op.create_table('tenants',
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=True),
    sa.Column('timezone', sa.Text(), server_default=sa.text("'UTC'"), nullable=False),
    sa.Column('currency', sa.Text(), server_default=sa.text("'USD'"), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_tenants_currency')),
    sa.CheckConstraint("length(tenant_id) BETWEEN 1 AND 64 AND tenant_id !~ '[[:cntrl:]]'", name=op.f('ck_tenants_tenant_id')),
    sa.PrimaryKeyConstraint('tenant_id', name=op.f('pk_tenants'))
    )
    op.create_table('usage_events',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('metric', sa.Text(), nullable=False),
    sa.Column('idempotency_key', sa.Text(), nullable=False),
    sa.Column('amount', sa.Numeric(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.CheckConstraint("length(idempotency_key) BETWEEN 1 AND 128 AND idempotency_key !~ '[[:cntrl:]]'", name=op.f('ck_usage_events_idempotency_key')),
    sa.CheckConstraint("length(metric) BETWEEN 1 AND 64 AND metric !~ '[[:cntrl:]]'", name=op.f('ck_usage_events_metric')),
    sa.CheckConstraint('abs(amount) < 1e18 AND scale(amount) <= 12', name=op.f('ck_usage_events_amount')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_usage_events'))
    )
    op.create_index('ix_usage_events_tenant_id_metric_at', 'usage_events', ['tenant_id', 'metric', 'at'], unique=False)
    op.create_table('usage_touched_days',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('metric', sa.Text(), nullable=False),
    sa.Column('first_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_usage_touched_days'))
    )
    op.create_table('endpoints',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=True),
    sa.Column('operator', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('topics', sa.ARRAY(sa.Text()), nullable=False),
    sa.Column('description', sa.Text(), nullable=True),
    sa.Column('headers', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'enabled'"), nullable=False),
    sa.Column('hold_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('consecutive_failures', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("state IN ('enabled', 'disabled', 'deleted')", name=op.f('ck_endpoints_state')),
    sa.CheckConstraint('cardinality(topics) >= 1', name=op.f('ck_endpoints_topics')),
    sa.CheckConstraint('length(url) <= 2048', name=op.f('ck_endpoints_url')),
    sa.CheckConstraint('(tenant_id IS NULL) = operator', name=op.f('ck_endpoints_owner')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_endpoints_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_endpoints'))
    )
    op.create_index('ix_endpoints_tenant_id', 'endpoints', ['tenant_id'], unique=False)
    op.create_table('invoices',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), server_default=sa.text("'subscription'"), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'draft'"), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('period_start', sa.DateTime(timezone=True), nullable=False),
    sa.Column('period_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('timezone', sa.Text(), nullable=False),
    sa.Column('total_minor', sa.BigInteger(), nullable=False),
    sa.Column('series', sa.Text(), nullable=True),
    sa.Column('sequence', sa.BigInteger(), nullable=True),
    sa.Column('number', sa.Text(), nullable=True),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finalized_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(state = 'draft') = (finalized_at IS NULL)", name=op.f('ck_invoices_finalized_at')),
    sa.CheckConstraint("(state = 'draft') = (number IS NULL)", name=op.f('ck_invoices_number')),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_invoices_currency')),
    sa.CheckConstraint("kind IN ('subscription')", name=op.f('ck_invoices_kind')),
    sa.CheckConstraint("state IN ('draft', 'finalized', 'paid', 'void', 'uncollectible')", name=op.f('ck_invoices_state')),
    sa.CheckConstraint('period_start < period_end', name=op.f('ck_invoices_period')),
    sa.ForeignKeyConstraint(['series'], ['invoice_series.series'], name=op.f('fk_invoices_series')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_invoices_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_invoices'))
    )
    op.create_index('ix_invoices_draft', 'invoices', ['period_end'], unique=False, postgresql_where=sa.text("state = 'draft'"))
    op.create_index('uq_invoices_number', 'invoices', ['number'], unique=True)
    op.create_index('uq_invoices_period', 'invoices', ['tenant_id', 'period_start', 'period_end', 'currency', 'kind'], unique=True)
    op.create_index('uq_invoices_series_sequence', 'invoices', ['series', 'sequence'], unique=True)
    op.create_table('outbox_pending',
    sa.Column('message_id', sa.Uuid(), nullable=False),
    sa.ForeignKeyConstraint(['message_id'], ['outbox_messages.id'], name=op.f('fk_outbox_pending_message_id')),
    sa.PrimaryKeyConstraint('message_id', name=op.f('pk_outbox_pending'))
    )
    op.create_table('prices',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('plan_key', sa.Text(), nullable=False),
    sa.Column('price_key', sa.Text(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('metric', sa.Text(), nullable=True),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('unit_amount', sa.Numeric(), nullable=True),
    sa.Column('params', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('timing', sa.Text(), server_default=sa.text("'arrears'"), nullable=False),
    sa.Column('description', sa.Text(), nullable=True),
    sa.Column('effective_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    postgresql.ExcludeConstraint((sa.column('plan_key'), '='), (sa.column('price_key'), '='), (sa.column('currency'), '='), (sa.text('tstzrange(effective_at, ended_at)'), '&&'), using='gist', name='ex_prices_one_version_at_a_time'),
    sa.CheckConstraint("(kind = 'usage') = (metric IS NOT NULL)", name=op.f('ck_prices_metric')),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_prices_currency')),
    sa.CheckConstraint("kind IN ('fixed', 'usage')", name=op.f('ck_prices_kind')),
    sa.CheckConstraint("length(price_key) BETWEEN 1 AND 64 AND price_key !~ '[[:cntrl:]]'", name=op.f('ck_prices_price_key')),
    sa.CheckConstraint("model IN ('fixed', 'per_unit')", name=op.f('ck_prices_model')),
    sa.CheckConstraint("timing IN ('advance', 'arrears')", name=op.f('ck_prices_timing')),
    sa.CheckConstraint('effective_at < ended_at', name=op.f('ck_prices_effective')),
    sa.CheckConstraint('scale(unit_amount) <= 12', name=op.f('ck_prices_unit_amount')),
    sa.ForeignKeyConstraint(['plan_key'], ['plans.plan_key'], name=op.f('fk_prices_plan_key')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_prices'))
    )
    op.create_table('products',
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), sa.Computed("'product'", persisted=True), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('type', sa.Text(), server_default=sa.text("'quantity'"), nullable=False),
    sa.Column('is_currency', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("type IN ('quantity', 'period', 'unlimited')", name=op.f('ck_products_type')),
    sa.CheckConstraint('product_key = upper(product_key)', name=op.f('ck_products_upper')),
    sa.ForeignKeyConstraint(['product_key', 'kind'], ['catalog_keys.key', 'catalog_keys.kind'], name=op.f('fk_products_product_key')),
    sa.PrimaryKeyConstraint('product_key', name=op.f('pk_products'))
    )
    op.create_table('subscriptions',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('plan_key', sa.Text(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('quantity', sa.Numeric(), server_default=sa.text('1'), nullable=False),
    sa.Column('effective_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('anchored_on', sa.Date(), nullable=False),
    sa.Column('billed_until', sa.Date(), nullable=True),
    sa.Column('next_invoice_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    postgresql.ExcludeConstraint((sa.column('tenant_id'), '='), (sa.column('plan_key'), '='), (sa.text('tstzrange(effective_at, ended_at)'), '&&'), using='gist', name='ex_subscriptions_one_of_a_plan_at_a_time'),
    sa.CheckConstraint('effective_at < ended_at', name=op.f('ck_subscriptions_effective')),
    sa.CheckConstraint('quantity > 0', name=op.f('ck_subscriptions_quantity')),
    sa.ForeignKeyConstraint(['plan_key'], ['plans.plan_key'], name=op.f('fk_subscriptions_plan_key')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_subscriptions_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_subscriptions'))
    )
    op.create_index('ix_subscriptions_next_invoice_at', 'subscriptions', ['next_invoice_at'], unique=False, postgresql_where=sa.text('next_invoice_at IS NOT NULL'))
    op.create_index('ix_subscriptions_tenant_id', 'subscriptions', ['tenant_id'], unique=False)
    op.create_table('usage_aggregates',
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('metric', sa.Text(), nullable=False),
    sa.Column('granularity', sa.Text(), nullable=False),
    sa.Column('period_start', sa.DateTime(timezone=True), nullable=False),
    sa.Column('period_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('total', sa.Numeric(), server_default=sa.text('0'), nullable=False),
    sa.Column('event_count', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("granularity IN ('day', 'month')", name=op.f('ck_usage_aggregates_granularity')),
    sa.CheckConstraint('period_start < period_end', name=op.f('ck_usage_aggregates_period')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_usage_aggregates_tenant_id')),
    sa.PrimaryKeyConstraint('tenant_id', 'metric', 'granularity', 'period_start', name=op.f('pk_usage_aggregates'))
    )
    op.create_table('credit_balances',
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('balance', sa.Numeric(), server_default=sa.text('0'), nullable=False),
    sa.Column('held', sa.Numeric(), server_default=sa.text('0'), nullable=False),
    sa.Column('depleted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('version', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('held >= 0', name=op.f('ck_credit_balances_held')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_credit_balances_product_key')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_credit_balances_tenant_id')),
    sa.PrimaryKeyConstraint('tenant_id', 'product_key', name=op.f('pk_credit_balances'))
    )
    op.create_table('credit_batches',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('initial_amount', sa.Numeric(), nullable=False),
    sa.Column('remaining_amount', sa.Numeric(), nullable=False),
    sa.Column('held_amount', sa.Numeric(), server_default=sa.text('0'), nullable=False),
    sa.Column('priority', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('valid_from', sa.DateTime(timezone=True), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('state', sa.Text(), server_default=sa.text("'ACTIVE'"), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('closed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.CheckConstraint("(state = 'ACTIVE') = (remaining_amount > 0 AND closed_at IS NULL)", name=op.f('ck_credit_batches_remaining')),
    sa.CheckConstraint("state IN ('ACTIVE', 'EXHAUSTED', 'EXPIRED', 'REVOKED')", name=op.f('ck_credit_batches_state')),
    sa.CheckConstraint('held_amount BETWEEN 0 AND remaining_amount', name=op.f('ck_credit_batches_held')),
    sa.CheckConstraint('initial_amount > 0 AND remaining_amount BETWEEN 0 AND initial_amount', name=op.f('ck_credit_batches_amounts')),
    sa.CheckConstraint('valid_from < expires_at', name=op.f('ck_credit_batches_validity')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_credit_batches_product_key')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_credit_batches_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_credit_batches'))
    )
    op.create_index('ix_credit_batches_expires_at_id', 'credit_batches', ['expires_at', 'id'], unique=False, postgresql_where=sa.text("state = 'ACTIVE' AND expires_at IS NOT NULL"))
    op.create_index('ix_credit_batches_spendable', 'credit_batches', ['tenant_id', 'product_key', 'priority', 'created_at', 'id'], unique=False, postgresql_where=sa.text("state = 'ACTIVE'"))
    op.create_table('deliveries',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('message_id', sa.Uuid(), nullable=False),
    sa.Column('endpoint_id', sa.Uuid(), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'pending'"), nullable=False),
    sa.Column('attempt_count', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('lease_token', sa.Uuid(), nullable=True),
    sa.Column('leased_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(state = 'sending') = (lease_token IS NOT NULL)", name=op.f('ck_deliveries_lease_token')),
    sa.CheckConstraint("(state = 'sending') = (leased_until IS NOT NULL)", name=op.f('ck_deliveries_leased_until')),
    sa.CheckConstraint("state IN ('pending', 'sending', 'held', 'delivered', 'dead', 'cancelled')", name=op.f('ck_deliveries_state')),
    sa.ForeignKeyConstraint(['endpoint_id'], ['endpoints.id'], name=op.f('fk_deliveries_endpoint_id')),
    sa.ForeignKeyConstraint(['message_id'], ['outbox_messages.id'], name=op.f('fk_deliveries_message_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_deliveries'))
    )
    op.create_index('ix_deliveries_due', 'deliveries', ['endpoint_id', 'due_at', 'id'], unique=False, postgresql_where=sa.text("state = 'pending'"))
    op.create_index('ix_deliveries_held', 'deliveries', ['endpoint_id', 'id'], unique=False, postgresql_where=sa.text("state = 'held'"))
    op.create_index('ix_deliveries_leased', 'deliveries', ['leased_until'], unique=False, postgresql_where=sa.text("state = 'sending'"))
    op.create_index('uq_deliveries_message_id_endpoint_id', 'deliveries', ['message_id', 'endpoint_id'], unique=True)
    op.create_table('endpoint_secrets',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('endpoint_id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.Text(), server_default=sa.text("'hmac'"), nullable=False),
    sa.Column('sealed', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("kind IN ('hmac', 'ed25519')", name=op.f('ck_endpoint_secrets_kind')),
    sa.ForeignKeyConstraint(['endpoint_id'], ['endpoints.id'], name=op.f('fk_endpoint_secrets_endpoint_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_endpoint_secrets'))
    )
    op.create_index('ix_endpoint_secrets_endpoint_id', 'endpoint_secrets', ['endpoint_id'], unique=False)
    op.create_table('invoice_lines',
    sa.Column('invoice_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('subscription_id', sa.Uuid(), nullable=True),
    sa.Column('price_id', sa.Uuid(), nullable=True),
    sa.Column('metric', sa.Text(), nullable=True),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('quantity', sa.Numeric(), nullable=False),
    sa.Column('unit_amount', sa.Numeric(), nullable=True),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('period_start', sa.DateTime(timezone=True), nullable=False),
    sa.Column('period_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('details', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.CheckConstraint("kind IN ('fixed', 'usage')", name=op.f('ck_invoice_lines_kind')),
    sa.CheckConstraint('period_start < period_end', name=op.f('ck_invoice_lines_period')),
    sa.ForeignKeyConstraint(['invoice_id'], ['invoices.id'], name=op.f('fk_invoice_lines_invoice_id')),
    sa.ForeignKeyConstraint(['price_id'], ['prices.id'], name=op.f('fk_invoice_lines_price_id')),
    sa.ForeignKeyConstraint(['subscription_id'], ['subscriptions.id'], name=op.f('fk_invoice_lines_subscription_id')),
    sa.PrimaryKeyConstraint('invoice_id', 'position', name=op.f('pk_invoice_lines'))
    )
    op.create_table('ledger_entries',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('direction', sa.Text(), nullable=False),
    sa.Column('amount', sa.Numeric(), nullable=False),
    sa.Column('action', sa.Text(), nullable=False),
    sa.Column('batch_id', sa.Uuid(), nullable=True),
    sa.Column('balance_after', sa.Numeric(), nullable=False),
    sa.Column('cause_type', sa.Text(), nullable=False),
    sa.Column('cause_id', sa.Text(), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("action IN ('grant', 'consume', 'expire')", name=op.f('ck_ledger_entries_action')),
    sa.CheckConstraint("direction IN ('CREDIT', 'DEBIT', 'USE')", name=op.f('ck_ledger_entries_direction')),
    sa.CheckConstraint('amount > 0', name=op.f('ck_ledger_entries_amount')),
    sa.ForeignKeyConstraint(['batch_id'], ['credit_batches.id'], name=op.f('fk_ledger_entries_batch_id')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_ledger_entries_product_key')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_ledger_entries_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_ledger_entries'))
    )
    op.create_index('ix_ledger_entries_batch_id', 'ledger_entries', ['batch_id'], unique=False)
    op.create_index('ix_ledger_entries_tenant_id_product_key_id', 'ledger_entries', ['tenant_id', 'product_key', 'id'], unique=False)
    for statement in FUNCTIONS + TRIGGERS + STORAGE:
        op.execute(statement)


FUNCTIONS = (
    # The identity of a usage event in 16 bytes. chr(31) can not occur in any of the three. STABLE,
    # although the same three always give the same: convert_to() is only STABLE, and a function that
    # promises more than its body is not inlined, which costs 2.6 of its 4.1 microseconds.
    """
    CREATE FUNCTION usage_event_id(tenant_id text, metric text, idempotency_key text)
    RETURNS uuid LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
        SELECT encode(substr(sha256(convert_to(
            tenant_id || chr(31) || metric || chr(31) || idempotency_key, 'UTF8')), 1, 16),
            'hex')::uuid
    $$
    """,
    # The first instant of a local day. Where midnight comes twice PostgreSQL takes the second; we
    # want the first, so the offset of three hours before is tried as well. Where midnight is
    # skipped it is the instant of the jump. models/rules/period.py says the same in Python.
    """
    CREATE FUNCTION local_midnight(day date, zone text)
    RETURNS timestamptz LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE WHEN (earlier AT TIME ZONE zone) = day::timestamp
                    THEN least(earlier, later) ELSE later END
        FROM (SELECT later,
                     (day::timestamp - ((later - interval '3 hours') AT TIME ZONE zone
                      - ((later - interval '3 hours') AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC'
                     AS earlier
              FROM (SELECT day::timestamp AT TIME ZONE zone AS later) AS given) AS candidates
    $$
    """,
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation';
    END $$
    """,
    # A finalized invoice moves through its states and changes in nothing else.
    """
    CREATE FUNCTION refuse_change_of_finalized_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        moving text[] := ARRAY['state', 'version', 'updated_at'];
    BEGIN
        IF OLD.state = 'draft' AND (TG_OP = 'DELETE' OR NEW.state IN ('draft', 'finalized')) THEN
            RETURN coalesce(NEW, OLD);
        END IF;
        IF TG_OP = 'DELETE' OR NEW.state = 'draft'
           OR to_jsonb(NEW) - moving IS DISTINCT FROM to_jsonb(OLD) - moving THEN
            RAISE EXCEPTION 'invoice % is % and can not be edited; correct it with a credit note',
                OLD.number, OLD.state USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    # Once a statement, not once a row: invoicing thousands of tenants inserts tens of thousands of
    # lines, and looking up the invoice of each took longer than all the rest.
    """
    CREATE FUNCTION refuse_change_of_finalized_lines() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        frozen uuid;
    BEGIN
        SELECT invoices.id INTO frozen
        FROM touched JOIN invoices ON invoices.id = touched.invoice_id
        WHERE invoices.state <> 'draft' LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'invoice % is finalized: % of its lines refused', frozen, TG_OP
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
)

TRIGGERS = tuple(
    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    for table in ("ledger_entries", "usage_events")
) + (
    "CREATE TRIGGER outbox_messages_immutable BEFORE UPDATE ON outbox_messages "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER invoices_frozen BEFORE UPDATE OR DELETE ON invoices "
    "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_finalized_invoice()",
) + tuple(
    f"CREATE TRIGGER invoice_lines_frozen_{name} AFTER {event} ON invoice_lines "
    f"REFERENCING {rows} TABLE AS touched "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_finalized_lines()"
    for name, event, rows in (
        ("insert", "INSERT", "NEW"),
        ("delete", "DELETE", "OLD"),
        # A line may neither leave a finalized invoice nor come to one.
        ("update", "UPDATE", "OLD"),
        ("move", "UPDATE", "NEW"),
    )
)

STORAGE = (
    # Attempts whose day has no partition yet are kept here, never refused.
    "CREATE TABLE delivery_attempts_default PARTITION OF delivery_attempts DEFAULT",
    # Queues: rows come and go all day, so they are vacuumed early.
    "ALTER TABLE outbox_pending SET (autovacuum_vacuum_scale_factor = 0.01)",
    "ALTER TABLE usage_touched_days SET (autovacuum_vacuum_scale_factor = 0.01)",
    # Updated in place many times: room for the new version on the same page.
    "ALTER TABLE deliveries SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)",
    "ALTER TABLE credit_balances SET (fillfactor = 70)",
    "ALTER TABLE credit_batches SET (fillfactor = 80)",
)

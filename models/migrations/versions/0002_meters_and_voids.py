"""Meters, voids, totals of months, versions that outlive a change of zone.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('meters',
    sa.Column('metric', sa.Text(), nullable=False),
    sa.Column('aggregation', sa.Text(), nullable=False),
    sa.Column('unit', sa.Text(), nullable=True),
    sa.Column('value_field', sa.Text(), nullable=True),
    sa.Column('filters', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('rounding_decimals', sa.SmallInteger(), nullable=True),
    sa.Column('rounding_mode', sa.Text(), nullable=True),
    sa.Column('allow_corrections', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('definition', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('recount_after', sa.Text(), nullable=True),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("aggregation IN ('sum', 'count', 'max', 'unique_count', 'latest')", name=op.f('ck_meters_aggregation')),
    sa.CheckConstraint("rounding_mode IN ('half_up', 'up', 'down')", name=op.f('ck_meters_rounding_mode')),
    sa.CheckConstraint("aggregation <> 'count' OR value_field IS NULL", name=op.f('ck_meters_value_field')),
    sa.CheckConstraint("jsonb_typeof(filters) = 'object'", name=op.f('ck_meters_filters')),
    sa.CheckConstraint("(rounding_decimals IS NULL) = (rounding_mode IS NULL) AND coalesce(rounding_decimals BETWEEN 0 AND 12, true)", name=op.f('ck_meters_rounding_decimals')),
    sa.CheckConstraint("length(metric) BETWEEN 1 AND 64 AND metric !~ '[[:cntrl:]]'", name=op.f('ck_meters_metric')),
    sa.PrimaryKeyConstraint('metric', name=op.f('pk_meters'))
    )
    op.create_table('usage_voids',
    sa.Column('event_id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('metric', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=True),
    sa.Column('voided_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint('length(reason) BETWEEN 1 AND 500', name=op.f('ck_usage_voids_reason')),
    sa.PrimaryKeyConstraint('event_id', name=op.f('pk_usage_voids'))
    )
    op.create_index('ix_usage_voids_tenant_id_metric_at', 'usage_voids', ['tenant_id', 'metric', 'at'], unique=False)
    op.add_column('usage_aggregates', sa.Column('meter_definition', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('tenants', sa.Column('usage_version', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.drop_index('ix_usage_events_tenant_id_metric_at', table_name='usage_events')
    op.create_index('ix_usage_events_tenant_id_metric_at', 'usage_events', ['tenant_id', 'metric', 'at'], unique=False, postgresql_include=['amount'])
    for statement in (APPEND_ONLY, VACUUM, MONTHS):
        op.execute(statement)


APPEND_ONLY = (
    "CREATE TRIGGER usage_voids_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_voids "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
)

# The index is read without the events where a page is known to hold nothing but visible rows, and it
# is vacuum that says so: by default only once a fifth of the table is new.
VACUUM = "ALTER TABLE usage_events SET (autovacuum_vacuum_insert_scale_factor = 0.01)"

# The months of the days that were counted before there were totals of months. There were no meters,
# so a month is the sum of its days.
MONTHS = """
    INSERT INTO usage_aggregates
        (tenant_id, metric, granularity, period_start, period_end, total, event_count, version)
    SELECT tenant_id, metric, 'month', local_midnight(month, timezone),
           local_midnight((month + interval '1 month')::date, timezone),
           sum(total), sum(event_count), 1
    FROM (
        SELECT day.*, tenants.timezone,
               date_trunc('month', day.period_start AT TIME ZONE tenants.timezone)::date AS month
        FROM usage_aggregates AS day JOIN tenants USING (tenant_id)
        WHERE day.granularity = 'day'
    ) AS days
    GROUP BY tenant_id, metric, timezone, month
"""

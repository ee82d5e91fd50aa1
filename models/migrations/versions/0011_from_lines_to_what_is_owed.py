"""Coupons, taxes, prepaid credit, payments and credit notes: from lines to what is owed.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('issuers',
    sa.Column('issuer_key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=True),
    sa.Column('printed', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('payment_days', sa.Integer(), server_default=sa.text('14'), nullable=False),
    sa.Column('invoice_series', sa.Text(), server_default=sa.text("'INV'"), nullable=False),
    sa.Column('credit_note_series', sa.Text(), server_default=sa.text("'CN'"), nullable=False),
    sa.Column('number_format', sa.Text(), server_default=sa.text("'{series}-{sequence:6}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("issuer_key IN ('default')", name=op.f('ck_issuers_issuer_key')),
    sa.CheckConstraint('invoice_series <> credit_note_series', name=op.f('ck_issuers_series')),
    sa.CheckConstraint('payment_days BETWEEN 0 AND 365', name=op.f('ck_issuers_payment_days')),
    sa.PrimaryKeyConstraint('issuer_key', name=op.f('pk_issuers'))
    )
    op.create_table('tax_rates',
    sa.Column('tax_key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('percent', sa.Numeric(), nullable=False),
    sa.Column('inclusive', sa.Boolean(), nullable=False),
    sa.Column('scope', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("length(tax_key) BETWEEN 1 AND 64 AND tax_key !~ '[[:cntrl:]]'", name=op.f('ck_tax_rates_tax_key')),
    sa.CheckConstraint('percent >= 0 AND percent <= 1000 AND scale(percent) <= 6', name=op.f('ck_tax_rates_percent')),
    sa.PrimaryKeyConstraint('tax_key', name=op.f('pk_tax_rates'))
    )
    op.create_table('coupons',
    sa.Column('coupon_key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('percent', sa.Numeric(), nullable=True),
    sa.Column('amount_minor', sa.BigInteger(), nullable=True),
    sa.Column('currency', sa.Text(), nullable=True),
    sa.Column('duration', sa.Text(), nullable=False),
    sa.Column('periods', sa.Integer(), nullable=True),
    sa.Column('scope', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=True),
    sa.Column('max_redemptions', sa.Integer(), nullable=True),
    sa.Column('redemption_count', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('active', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("(duration = 'repeating') = (periods IS NOT NULL)", name=op.f('ck_coupons_periods')),
    sa.CheckConstraint("duration IN ('once', 'repeating', 'forever')", name=op.f('ck_coupons_duration')),
    sa.CheckConstraint("length(coupon_key) BETWEEN 1 AND 64 AND coupon_key !~ '[[:cntrl:]]'", name=op.f('ck_coupons_coupon_key')),
    sa.CheckConstraint('(amount_minor IS NULL) = (currency IS NULL)', name=op.f('ck_coupons_currency')),
    sa.CheckConstraint('(percent IS NULL) <> (amount_minor IS NULL)', name=op.f('ck_coupons_terms')),
    sa.CheckConstraint('amount_minor > 0', name=op.f('ck_coupons_amount_minor')),
    sa.CheckConstraint('coupon_key = upper(coupon_key)', name=op.f('ck_coupons_upper')),
    sa.CheckConstraint('percent > 0 AND percent <= 100', name=op.f('ck_coupons_percent')),
    sa.CheckConstraint('periods > 0', name=op.f('ck_coupons_periods_positive')),
    sa.CheckConstraint('redemption_count >= 0 AND redemption_count <= max_redemptions', name=op.f('ck_coupons_redemptions')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_coupons_tenant_id')),
    sa.PrimaryKeyConstraint('coupon_key', name=op.f('pk_coupons'))
    )
    op.create_table('tax_profiles',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('effective_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('exempt_note', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('length(exempt_note) BETWEEN 1 AND 500', name=op.f('ck_tax_profiles_exempt_note')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_tax_profiles_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tax_profiles'))
    )
    op.create_index('uq_tax_profiles_tenant_effective', 'tax_profiles', ['tenant_id', 'effective_at'], unique=True)
    op.create_table('coupon_redemptions',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('coupon_key', sa.Text(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('redeemed_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint('redeemed_at <= ended_at', name=op.f('ck_coupon_redemptions_ended_at')),
    sa.ForeignKeyConstraint(['coupon_key'], ['coupons.coupon_key'], name=op.f('fk_coupon_redemptions_coupon_key')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_coupon_redemptions_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_coupon_redemptions'))
    )
    op.create_index('uq_coupon_redemptions_tenant', 'coupon_redemptions', ['tenant_id', 'coupon_key'], unique=True)
    op.create_table('credit_notes',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('invoice_id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('series', sa.Text(), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('number', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('subtotal_minor', sa.BigInteger(), nullable=False),
    sa.Column('tax_minor', sa.BigInteger(), nullable=False),
    sa.Column('included_tax_minor', sa.BigInteger(), nullable=False),
    sa.Column('total_minor', sa.BigInteger(), nullable=False),
    sa.Column('reduced_minor', sa.BigInteger(), nullable=False),
    sa.Column('to_credit_minor', sa.BigInteger(), nullable=False),
    sa.Column('payout_minor', sa.BigInteger(), nullable=False),
    sa.Column('issuer', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('billed_to', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint('reduced_minor >= 0 AND to_credit_minor >= 0 AND payout_minor >= 0 AND total_minor = reduced_minor + to_credit_minor + payout_minor', name=op.f('ck_credit_notes_refund')),
    sa.CheckConstraint('total_minor = subtotal_minor + tax_minor - included_tax_minor', name=op.f('ck_credit_notes_sum')),
    sa.CheckConstraint('total_minor > 0', name=op.f('ck_credit_notes_total_minor')),
    sa.ForeignKeyConstraint(['invoice_id'], ['invoices.id'], name=op.f('fk_credit_notes_invoice_id')),
    sa.ForeignKeyConstraint(['series'], ['invoice_series.series'], name=op.f('fk_credit_notes_series')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_credit_notes_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_credit_notes'))
    )
    op.create_index('ix_credit_notes_invoice_id', 'credit_notes', ['invoice_id'], unique=False)
    op.create_index('ix_credit_notes_tenant_id', 'credit_notes', ['tenant_id'], unique=False)
    op.create_index('uq_credit_notes_number', 'credit_notes', ['number'], unique=True)
    op.create_index('uq_credit_notes_series_sequence', 'credit_notes', ['series', 'sequence'], unique=True)
    op.create_table('invoice_taxes',
    sa.Column('invoice_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('tax_key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('percent', sa.Numeric(), nullable=False),
    sa.Column('inclusive', sa.Boolean(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('taxable_minor', sa.BigInteger(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('percent >= 0', name=op.f('ck_invoice_taxes_percent')),
    sa.ForeignKeyConstraint(['invoice_id'], ['invoices.id'], name=op.f('fk_invoice_taxes_invoice_id')),
    sa.ForeignKeyConstraint(['tax_key'], ['tax_rates.tax_key'], name=op.f('fk_invoice_taxes_tax_key')),
    sa.PrimaryKeyConstraint('invoice_id', 'position', name=op.f('pk_invoice_taxes'))
    )
    op.create_table('payments',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('invoice_id', sa.Uuid(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('method', sa.Text(), nullable=False),
    sa.Column('payment_id', sa.Text(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('excess_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('amount_minor > 0', name=op.f('ck_payments_amount_minor')),
    sa.CheckConstraint('excess_minor BETWEEN 0 AND amount_minor', name=op.f('ck_payments_excess_minor')),
    sa.ForeignKeyConstraint(['invoice_id'], ['invoices.id'], name=op.f('fk_payments_invoice_id')),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.tenant_id'], name=op.f('fk_payments_tenant_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_payments'))
    )
    op.create_index('ix_payments_invoice_id', 'payments', ['invoice_id'], unique=False)
    op.create_index('uq_payments_method_payment_id', 'payments', ['method', 'payment_id'], unique=True)
    op.create_table('tax_profile_rates',
    sa.Column('profile_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('tax_key', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['profile_id'], ['tax_profiles.id'], name=op.f('fk_tax_profile_rates_profile_id')),
    sa.ForeignKeyConstraint(['tax_key'], ['tax_rates.tax_key'], name=op.f('fk_tax_profile_rates_tax_key')),
    sa.PrimaryKeyConstraint('profile_id', 'position', name=op.f('pk_tax_profile_rates'))
    )
    op.create_table('prepaid_products',
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('product_key', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_prepaid_products_currency')),
    sa.ForeignKeyConstraint(['product_key'], ['products.product_key'], name=op.f('fk_prepaid_products_product_key')),
    sa.PrimaryKeyConstraint('currency', name=op.f('pk_prepaid_products'))
    )
    op.create_index('uq_prepaid_products_product_key', 'prepaid_products', ['product_key'], unique=True)
    op.create_table('credit_note_lines',
    sa.Column('credit_note_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('invoice_id', sa.Uuid(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('taxes_minor', sa.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
    sa.ForeignKeyConstraint(['credit_note_id'], ['credit_notes.id'], name=op.f('fk_credit_note_lines_credit_note_id')),
    sa.ForeignKeyConstraint(['invoice_id', 'position'], ['invoice_lines.invoice_id', 'invoice_lines.position'], name=op.f('fk_credit_note_lines_invoice_id')),
    sa.PrimaryKeyConstraint('credit_note_id', 'position', name=op.f('pk_credit_note_lines'))
    )
    op.create_index('ix_credit_note_lines_invoice_id', 'credit_note_lines', ['invoice_id'], unique=False)
    op.create_table('invoice_discounts',
    sa.Column('invoice_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('redemption_id', sa.Uuid(), nullable=False),
    sa.Column('coupon_key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('percent', sa.Numeric(), nullable=True),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('amount_minor > 0', name=op.f('ck_invoice_discounts_amount_minor')),
    sa.ForeignKeyConstraint(['invoice_id'], ['invoices.id'], name=op.f('fk_invoice_discounts_invoice_id')),
    sa.ForeignKeyConstraint(['redemption_id'], ['coupon_redemptions.id'], name=op.f('fk_invoice_discounts_redemption_id')),
    sa.PrimaryKeyConstraint('invoice_id', 'position', name=op.f('pk_invoice_discounts'))
    )
    op.create_index('ix_invoice_discounts_redemption_id', 'invoice_discounts', ['redemption_id'], unique=False)
    op.add_column('invoice_lines', sa.Column('discounts_minor', sa.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('invoice_lines', sa.Column('taxes_minor', sa.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('invoices', sa.Column('subtotal_minor', sa.BigInteger(), nullable=True))
    op.add_column('invoices', sa.Column('discount_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('tax_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('included_tax_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('tax_note', sa.Text(), nullable=True))
    op.add_column('invoices', sa.Column('credit_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('amount_due_minor', sa.BigInteger(), nullable=True))
    op.add_column('invoices', sa.Column('paid_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('reduced_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('credited_minor', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('invoices', sa.Column('issuer', postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column('invoices', sa.Column('billed_to', postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column('invoices', sa.Column('due_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('invoices', sa.Column('closed_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('invoices', sa.Column('closing_note', sa.Text(), nullable=True))
    op.add_column('tenants', sa.Column('address', sa.Text(), nullable=True))
    op.add_column('tenants', sa.Column('tax_number', sa.Text(), nullable=True))

    for statement in FILL:
        op.execute(statement)
    op.drop_index("uq_invoices_period", table_name="invoices")
    op.create_index(
        "uq_invoices_period",
        "invoices",
        ["tenant_id", "period_start", "period_end", "currency", "kind"],
        unique=True,
        postgresql_where=sa.text("state <> 'void'"),
    )
    for column in ("subtotal_minor", "amount_due_minor"):
        op.alter_column("invoices", column, nullable=False)
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_invoices_{name}"), "invoices", condition)
    op.execute(FROZEN)
    for statement in TRIGGERS:
        op.execute(statement)


# What was billed before there were taxes and discounts is the sum of its lines, all of it owed; an
# invoice of which nothing is owed is paid, as it is from now on.
FILL = (
    "ALTER TABLE invoices DISABLE TRIGGER invoices_frozen",
    """
    UPDATE invoices
    SET subtotal_minor = total_minor, amount_due_minor = total_minor,
        paid_minor = CASE WHEN state = 'paid' THEN total_minor ELSE 0 END,
        state = CASE WHEN state = 'finalized' AND total_minor = 0 THEN 'paid' ELSE state END,
        closed_at = CASE WHEN state = 'finalized' AND total_minor = 0 THEN finalized_at
                         WHEN state IN ('paid', 'void', 'uncollectible') THEN updated_at END
    """,
    "ALTER TABLE invoices ENABLE TRIGGER invoices_frozen",
)

CHECKS = {
    "total_minor": "total_minor = subtotal_minor - discount_minor + tax_minor - included_tax_minor",
    "amount_due_minor": "amount_due_minor = total_minor - credit_minor",
    "settled": "paid_minor >= 0 AND reduced_minor >= 0 "
    "AND paid_minor + reduced_minor <= greatest(amount_due_minor, 0)",
    "credited_minor": "credited_minor BETWEEN 0 AND greatest(total_minor, 0) "
    "AND reduced_minor <= credited_minor",
    "untouched": "state NOT IN ('draft', 'void') OR (paid_minor = 0 AND credited_minor = 0)",
    "paid": "state <> 'paid' OR paid_minor + reduced_minor = amount_due_minor",
}

# A finalized invoice moves through its states as models/rules/states.py has them, is paid and is
# credited, and changes in nothing else.
FROZEN = """
    CREATE OR REPLACE FUNCTION refuse_change_of_finalized_invoice() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE
        moving text[] := ARRAY['state', 'version', 'updated_at', 'paid_minor', 'reduced_minor',
                               'credited_minor', 'closed_at', 'closing_note'];
    BEGIN
        IF OLD.state = 'draft' AND (TG_OP = 'DELETE' OR NEW.state IN ('draft', 'finalized')) THEN
            RETURN coalesce(NEW, OLD);
        END IF;
        IF TG_OP = 'DELETE' OR NEW.state = 'draft'
           OR to_jsonb(NEW) - moving IS DISTINCT FROM to_jsonb(OLD) - moving THEN
            RAISE EXCEPTION 'invoice % is % and can not be edited; correct it with a credit note',
                OLD.number, OLD.state USING ERRCODE = 'restrict_violation';
        END IF;
        IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
            ('finalized', 'paid'), ('finalized', 'void'), ('finalized', 'uncollectible'),
            ('uncollectible', 'paid'))
           OR NEW.paid_minor < OLD.paid_minor OR NEW.credited_minor < OLD.credited_minor THEN
            RAISE EXCEPTION 'invoice % is finalized: it can not go from % to %',
                OLD.number, OLD.state, NEW.state USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
"""

TRIGGERS = tuple(
    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    for table in ("payments", "credit_notes", "credit_note_lines")
) + tuple(
    f"CREATE TRIGGER {table}_frozen_{name} AFTER {event} ON {table} "
    f"REFERENCING {rows} TABLE AS touched "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_finalized_lines()"
    for table in ("invoice_discounts", "invoice_taxes")
    for name, event, rows in (
        ("insert", "INSERT", "NEW"),
        ("delete", "DELETE", "OLD"),
        ("update", "UPDATE", "OLD"),
        ("move", "UPDATE", "NEW"),
    )
)

"""Drafts that came to nothing are void without a number; the zones that tenants left are kept.

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op

from models.migrations import online

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

harmless = "The checks of invoices let through all that the release before may write."


def upgrade() -> None:
    op.create_table(
        "tenant_zones",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_tenant_zones_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "left_at", name=op.f("pk_tenant_zones")),
        # The last step is done beside others; if that is interrupted, all of this comes again.
        if_not_exists=True,
    )
    for name, condition in CHECKS.items():
        op.drop_constraint(op.f(f"ck_invoices_{name}"), "invoices", type_="check", if_exists=True)
        op.execute(
            f"ALTER TABLE invoices ADD CONSTRAINT ck_invoices_{name} "
            f"CHECK ({condition}) NOT VALID"
        )
    op.execute(FROZEN)
    online.validate("invoices", [f"ck_invoices_{name}" for name in CHECKS])


CHECKS = {
    "number": "CASE state WHEN 'draft' THEN number IS NULL WHEN 'void' THEN true "
    "ELSE number IS NOT NULL END",
    "finalized_at": "(number IS NULL) = (finalized_at IS NULL)",
    "dropped": "state <> 'void' OR number IS NOT NULL OR (subtotal_minor, total_minor) = (0, 0)",
}

# As it was (0011), and a draft may be withdrawn.
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
            ('draft', 'void'), ('finalized', 'paid'), ('finalized', 'void'),
            ('finalized', 'uncollectible'), ('uncollectible', 'paid'))
           OR NEW.paid_minor < OLD.paid_minor OR NEW.credited_minor < OLD.credited_minor THEN
            RAISE EXCEPTION 'invoice % is finalized: it can not go from % to %',
                OLD.number, OLD.state, NEW.state USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
"""

"""Identities, merged tenants, what was taken over from a system before, and erasure.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("merged_into", sa.Text(), nullable=True))
    op.add_column("tenants", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.create_foreign_key(
        op.f("fk_tenants_merged_into"), "tenants", "tenants", ["merged_into"], ["tenant_id"]
    )
    op.create_check_constraint(
        op.f("ck_tenants_merged_into"), "tenants", "merged_into <> tenant_id"
    )
    for name, column in (("ix_tenants_merged", "tenant_id"), ("ix_tenants_merged_into", "merged_into")):
        op.create_index(
            name, "tenants", [column], postgresql_where=sa.text("merged_into IS NOT NULL")
        )
    _create_identities()
    _create_merges()
    _create_legacy_rows()
    op.drop_constraint(op.f("ck_ledger_entries_action"), "ledger_entries", type_="check")
    op.execute(ACTIONS)
    for statement in CHANGE_OF_HANDS:
        op.execute(statement)


def _create_identities() -> None:
    op.create_table(
        "tenant_identities",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "provider ~ '^[a-z0-9][a-z0-9._-]{0,63}$'", name=op.f("ck_tenant_identities_provider")
        ),
        sa.CheckConstraint(
            "length(external_id) BETWEEN 1 AND 255 AND external_id !~ '[[:cntrl:]]'",
            name=op.f("ck_tenant_identities_external_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_tenant_identities_tenant_id")
        ),
        sa.PrimaryKeyConstraint("provider", "external_id", name=op.f("pk_tenant_identities")),
    )
    op.create_index("ix_tenant_identities_tenant_id", "tenant_identities", ["tenant_id"])


def _create_merges() -> None:
    op.create_table(
        "tenant_merges",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column(
            "moved", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("merged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("after_metric", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("after_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("after_id", sa.Uuid(), nullable=True),
        *(
            sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)
            for name in ("events_moved", "events_duplicate", "events_conflict", "events_left")
        ),
        sa.Column("usage_moved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("source_id <> target_id", name=op.f("ck_tenant_merges_two")),
        *(
            sa.ForeignKeyConstraint(
                [column], ["tenants.tenant_id"], name=op.f(f"fk_tenant_merges_{column}")
            )
            for column in ("source_id", "target_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant_merges")),
    )
    op.create_index("uq_tenant_merges_source_id", "tenant_merges", ["source_id"], unique=True)
    op.create_index("ix_tenant_merges_target_id", "tenant_merges", ["target_id"])
    op.create_index(
        "ix_tenant_merges_open",
        "tenant_merges",
        ["merged_at"],
        postgresql_where=sa.text("usage_moved_at IS NULL"),
    )


def _create_legacy_rows() -> None:
    op.create_table(
        "legacy_rows",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("migration_source_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("row_hash", sa.LargeBinary(), nullable=False),
        sa.Column("made_id", sa.Text(), nullable=True),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('identity', 'balance', 'subscription')", name=op.f("ck_legacy_rows_kind")
        ),
        sa.CheckConstraint(
            "length(migration_source_id) BETWEEN 1 AND 128",
            name=op.f("ck_legacy_rows_source_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_legacy_rows_tenant_id")
        ),
        sa.PrimaryKeyConstraint("kind", "migration_source_id", name=op.f("pk_legacy_rows")),
    )
    op.create_index("ix_legacy_rows_tenant_id", "legacy_rows", ["tenant_id"])


ACTIONS = """
    ALTER TABLE ledger_entries ADD CONSTRAINT ck_ledger_entries_action CHECK (action IN (
        'grant', 'consume', 'commit', 'overdraft', 'repay', 'refund', 'exchange', 'adjust',
        'revoke', 'expire', 'transfer', 'merge_out', 'merge_in'
    ))
"""

CHANGE_OF_HANDS = (
    # An event says who used what. It may come to say the tenant that this one was merged into, with
    # the id that goes with it, and nothing else of it ever changes.
    """
    CREATE FUNCTION refuse_change_but_of_hands() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        moving text[] := ARRAY['id', 'event_id', 'tenant_id'];
    BEGIN
        IF to_jsonb(NEW) - moving = to_jsonb(OLD) - moving AND EXISTS (
            SELECT FROM tenants
            WHERE tenant_id = OLD.tenant_id AND merged_into = NEW.tenant_id
        ) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation';
    END $$
    """,
    "DROP TRIGGER usage_events_append_only ON usage_events",
    "CREATE TRIGGER usage_events_append_only BEFORE TRUNCATE ON usage_events "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER usage_events_change_of_hands BEFORE UPDATE ON usage_events "
    "FOR EACH ROW EXECUTE FUNCTION refuse_change_but_of_hands()",
    "DROP TRIGGER usage_voids_append_only ON usage_voids",
    "CREATE TRIGGER usage_voids_append_only BEFORE DELETE OR TRUNCATE ON usage_voids "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER usage_voids_change_of_hands BEFORE UPDATE ON usage_voids "
    "FOR EACH ROW EXECUTE FUNCTION refuse_change_but_of_hands()",
)

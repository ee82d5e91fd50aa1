"""Usage may leave: horizons, archives, the keys of purged events, and the one way to purge.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_horizons",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("closed_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_usage_horizons_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_usage_horizons")),
    )
    op.create_table(
        "usage_archives",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("after_metric", sa.Text(), nullable=True),
        sa.Column("after_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("after_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'due'"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("event_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column(
            "totals",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('due', 'written', 'verified', 'purged', 'forgotten')",
            name=op.f("ck_usage_archives_state"),
        ),
        sa.CheckConstraint("period_start < period_end", name=op.f("ck_usage_archives_period")),
        sa.CheckConstraint("part >= 1", name=op.f("ck_usage_archives_part")),
        sa.CheckConstraint(
            "(after_metric IS NULL) = (part = 1) AND (after_at IS NULL) = (part = 1) "
            "AND (after_id IS NULL) = (part = 1)",
            name=op.f("ck_usage_archives_after"),
        ),
        sa.CheckConstraint(
            "(state = 'due') = (written_at IS NULL) AND (state = 'due') = (name IS NULL) "
            "AND (state = 'due') = (sha256 IS NULL)",
            name=op.f("ck_usage_archives_written_at"),
        ),
        sa.CheckConstraint(
            "(state IN ('purged', 'forgotten')) = (purged_at IS NOT NULL)",
            name=op.f("ck_usage_archives_purged_at"),
        ),
        sa.CheckConstraint(
            "(state = 'forgotten') = (forgotten_at IS NOT NULL)",
            name=op.f("ck_usage_archives_forgotten_at"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_usage_archives_tenant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_archives")),
    )
    op.create_index(
        "uq_usage_archives_tenant_id_period_start_part",
        "usage_archives",
        ["tenant_id", "period_start", "part"],
        unique=True,
    )
    op.create_index("uq_usage_archives_name", "usage_archives", ["name"], unique=True)
    op.create_index(
        "ix_usage_archives_open",
        "usage_archives",
        ["state", "id"],
        postgresql_where=sa.text("state IN ('due', 'written', 'verified')"),
    )
    op.create_index(
        "ix_usage_archives_purged",
        "usage_archives",
        ["purged_at"],
        postgresql_where=sa.text("state = 'purged'"),
    )
    op.create_table(
        "usage_purged_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata_hash", sa.BigInteger(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("is_at_arrival", sa.Boolean(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_purged_keys")),
    )
    op.create_index(
        "ix_usage_purged_keys_archive_id",
        "usage_purged_keys",
        ["archive_id"],
        postgresql_using="brin",
    )
    for statement in PURGE:
        op.execute(statement)


PURGE = (
    # What may be deleted is a matter of data, not of who asks or of a switch somebody could leave
    # on: an event whose file was read back and compared with it. Once a statement, after it; OFFSET 0
    # keeps each look a step down an index.
    """
    CREATE FUNCTION refuse_purge_of_unarchived() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM gone WHERE NOT EXISTS (
                SELECT FROM usage_purged_keys AS kept
                JOIN usage_archives AS archive ON archive.id = kept.archive_id
                WHERE kept.id = gone.id AND archive.state = 'verified'
                OFFSET 0
            )
        ) THEN
            RAISE EXCEPTION '% is append-only: % refused of what no verified archive holds',
                TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
    # The new rule comes before the old one goes: there is no moment without any.
    "CREATE TRIGGER usage_events_purged AFTER DELETE ON usage_events "
    "REFERENCING OLD TABLE AS gone "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_purge_of_unarchived()",
    "DROP TRIGGER usage_events_append_only ON usage_events",
    "CREATE TRIGGER usage_events_append_only BEFORE UPDATE OR TRUNCATE ON usage_events "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
)

"""Partitions of attempts are made and dropped by functions, so that no worker needs to own tables.

Revision ID: 0024
Revises: 0023
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in FUNCTIONS:
        op.execute(statement)
    for name in NAMES:
        op.execute(f"REVOKE ALL ON FUNCTION {name}(date) FROM PUBLIC")
        op.execute(PINNED.format(name=name))


NAMES = ("prepare_attempts_day", "drop_attempts_day")

# What runs as the owner of the tables looks for names in their schema alone, and in nobody's
# temporary one before it. Where the tables are is known here, not when it is called.
PINNED = """
    DO $$ BEGIN
        EXECUTE format(
            'ALTER FUNCTION {name}(date) SET search_path = %I, pg_temp', current_schema()
        );
    END $$
"""

FUNCTIONS = (
    # Made beside the parent and attached: that way writers are not kept out of the parent while
    # rows move. The default partition is locked, since rows of this day that are in it must move
    # and none may join them; writers to other days go on. One maker at a time: the second finds
    # what the first has made. What it takes is a date, and all that it executes is made of it.
    """
    CREATE FUNCTION prepare_attempts_day(day date) RETURNS bigint
    LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
    DECLARE
        name text := 'delivery_attempts_' || to_char(day, 'YYYYMMDD');
        starts_at timestamptz := day::timestamp AT TIME ZONE 'UTC';
        ends_at timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
        moved bigint;
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('delivery_attempts partitions'));
        IF to_regclass(name) IS NOT NULL THEN
            RETURN NULL;
        END IF;
        LOCK TABLE delivery_attempts_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE delivery_attempts INCLUDING ALL)', name);
        EXECUTE format(
            'WITH gone AS ('
            '    DELETE FROM delivery_attempts_default'
            '    WHERE attempted_at >= %L AND attempted_at < %L RETURNING *'
            '), moved AS (INSERT INTO %I SELECT * FROM gone RETURNING 1) '
            'SELECT count(*) FROM moved', starts_at, ends_at, name
        ) INTO moved;
        EXECUTE format(
            'ALTER TABLE delivery_attempts ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, starts_at, ends_at
        );
        RETURN moved;
    END $$
    """,
    # The parent is locked for as long as it takes to forget a table; nobody waits longer for that.
    """
    CREATE FUNCTION drop_attempts_day(day date) RETURNS boolean
    LANGUAGE plpgsql STRICT SECURITY DEFINER SET lock_timeout = '2s' AS $$
    DECLARE
        name text := 'delivery_attempts_' || to_char(day, 'YYYYMMDD');
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('delivery_attempts partitions'));
        IF to_regclass(name) IS NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('DROP TABLE %I', name);
        RETURN true;
    END $$
    """,
)

"""Lines and subscriptions checked a statement at a time: what they name is there, and stays.

Revision ID: 0020
Revises: 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in FUNCTIONS + TRIGGERS:
        op.execute(statement)
    # The triggers are there before the constraints go: at no instant is anything unchecked.
    for column in ("invoice_id", "subscription_id", "price_id", "adjusts_invoice_id"):
        op.drop_constraint(
            op.f(f"fk_invoice_lines_{column}"), "invoice_lines", type_="foreignkey"
        )
    op.drop_constraint("ex_subscriptions_one_of_a_plan_at_a_time", "subscriptions")


NAMED = ("invoices", "prices", "subscriptions")
"""What lines refer to."""

# A foreign key looks up what each row names, and locks it, by itself: four of them took half of the
# time in which lines are stored. Here each thing that many lines name is looked up once; and it
# needs no lock, because none of it is ever removed (`refuse_removal`). OFFSET 0: a step down the
# index each, whatever a plan made for another number of lines would do.
FUNCTIONS = (
    """
    CREATE FUNCTION refuse_lines_of_nothing() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        missing text;
    BEGIN
        SELECT format('%s %s', named.what, named.id) INTO missing
        FROM (
            SELECT 'invoice' AS what, invoice_id AS id FROM touched
            UNION SELECT 'invoice', adjusts_invoice_id FROM touched
            UNION SELECT 'price', price_id FROM touched
            UNION SELECT 'subscription', subscription_id FROM touched
        ) AS named
        WHERE named.id IS NOT NULL AND NOT CASE named.what
            WHEN 'invoice' THEN EXISTS (SELECT FROM invoices WHERE id = named.id OFFSET 0)
            WHEN 'price' THEN EXISTS (SELECT FROM prices WHERE id = named.id OFFSET 0)
            ELSE EXISTS (SELECT FROM subscriptions WHERE id = named.id OFFSET 0)
        END
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'a line names %, which is not there', missing
                USING ERRCODE = 'foreign_key_violation', TABLE = TG_TABLE_NAME;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'rows of % stay, and keep their ids: invoice lines name them; % refused',
            TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
    END $$
    """,
    # An exclusion constraint's index took eight times as long as all others together, whenever a
    # subscription was moved on. Who changes a subscription holds its tenant; who does not, waits
    # here for those who do, and then sees what they have committed.
    """
    CREATE FUNCTION refuse_overlapping_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        other uuid;
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'subscriptions are changed by transactions that read what is committed'
                USING ERRCODE = 'feature_not_supported';
        END IF;
        PERFORM FROM tenants WHERE tenant_id = NEW.tenant_id FOR NO KEY UPDATE;
        SELECT id INTO other FROM subscriptions
        WHERE tenant_id = NEW.tenant_id AND plan_key = NEW.plan_key AND id <> NEW.id
          AND tstzrange(effective_at, ended_at) && tstzrange(NEW.effective_at, NEW.ended_at)
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'subscription % is of the same tenant and plan at the same time', other
                USING ERRCODE = 'exclusion_violation', TABLE = TG_TABLE_NAME;
        END IF;
        RETURN NULL;
    END $$
    """,
)

TRIGGERS = (
    *(
        f"CREATE TRIGGER invoice_lines_named_{name} AFTER {event} ON invoice_lines "
        "REFERENCING NEW TABLE AS touched "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_lines_of_nothing()"
        for name, event in (("insert", "INSERT"), ("update", "UPDATE"))
    ),
    *(
        f"CREATE TRIGGER {table}_kept BEFORE DELETE OR UPDATE OF id ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_removal()"
        for table in NAMED
    ),
    *(
        f"CREATE TRIGGER {table}_kept_whole BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal()"
        for table in NAMED
    ),
    "CREATE TRIGGER subscriptions_one_of_a_plan_at_a_time "
    "AFTER INSERT OR UPDATE OF tenant_id, plan_key, effective_at, ended_at ON subscriptions "
    "FOR EACH ROW EXECUTE FUNCTION refuse_overlapping_subscription()",
)

"""Who may do what in the database: a role for each kind of process, and its rights table by table.

Pure data, and the SQL made of it: `billing schema roles` prints it, models/roles.sql keeps it, and
`billing migrate` grants anew what a migration has added. A right stands here as PostgreSQL's GRANT
has it. Whoever locks rows needs UPDATE of one column at least: where nothing else of a table is
changed it is one that means nothing.
"""

import textwrap
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

NONE: Final = ""
READ: Final = "SELECT"
ADD: Final = "SELECT, INSERT"
EDIT: Final = "SELECT, INSERT, UPDATE"
LIST: Final = "SELECT, INSERT, DELETE"
FULL: Final = "SELECT, INSERT, UPDATE, DELETE"


class Role(StrEnum):
    """A group role: it can not log in; logins are made members of it."""

    worker = "billing_worker"
    sender = "billing_sender"
    producer = "billing_producer"
    reader = "billing_reader"


MEANING: Final[Mapping[Role, str]] = {
    Role.worker: "workers of the queues usage and billing, and operators",
    Role.sender: "workers of the queue webhooks: endpoints, deliveries, the invoicing provider",
    Role.producer: "a service that records usage in its own process, without a queue",
    Role.reader: "billing status, billing metrics, billing doctor, dashboards",
}


class Rights(NamedTuple):
    """What each role may do with a table. The owner, who migrates, may do everything."""

    worker: str
    sender: str = NONE
    producer: str = NONE
    reader: str = READ

    def of(self, role: Role) -> str:
        """Return the rights of a role."""
        return str(getattr(self, role.name))


def lock(column: str) -> str:
    """Return the right to read rows and to lock them."""
    return f"{READ}, UPDATE ({column})"


def seen(*columns: str) -> str:
    """Return the right to read some columns alone."""
    return f"SELECT ({', '.join(columns)})"


_OF_ENDPOINTS = (
    "id, tenant_id, operator, url, topics, description, host, ordered, rate_per_minute, state, "
    "unsettled, metadata, version, created_at, updated_at"
)

TABLES: Final[Mapping[str, Rights]] = {
    "alembic_version": Rights(READ, READ, READ),
    # Who is billed.
    "tenants": Rights(EDIT, f"{ADD}, UPDATE (updated_at)", f"{ADD}, UPDATE (updated_at)"),
    "tenant_identities": Rights(FULL),
    "tenant_merges": Rights(EDIT),
    "tenant_zones": Rights(ADD),
    "parked_tenants": Rights(EDIT),
    "legacy_rows": Rights(EDIT),
    # What was used. UPDATE and DELETE of events are for merges and the archive: triggers let
    # nothing else pass.
    "usage_events": Rights(FULL, producer=ADD),
    "usage_voids": Rights(EDIT, producer=READ),
    "usage_touched_days": Rights(FULL, producer=ADD),
    "usage_aggregates": Rights(FULL),
    "usage_quarter_hours": Rights(FULL),
    "usage_horizons": Rights(EDIT, producer=lock("updated_at")),
    "usage_archives": Rights(EDIT),
    "usage_purged_keys": Rights(LIST, producer=READ),
    "meters": Rights(EDIT, producer=READ),
    "check_runs": Rights(FULL),
    # Limits.
    "entitlements": Rights(FULL),
    "quota_metrics": Rights(EDIT, producer=READ),
    "quota_counters": Rights(FULL),
    "quota_arrivals": Rights(LIST, producer=ADD),
    # Credit. The ledger is only ever added to.
    "credit_balances": Rights(FULL),
    "credit_batches": Rights(EDIT),
    "ledger_entries": Rights(ADD),
    "reservations": Rights(EDIT),
    "reservation_slices": Rights(ADD),
    "credit_notices": Rights(FULL),
    "expiry_notices": Rights(ADD),
    "plan_credits": Rights(EDIT),
    "subscription_credits": Rights(EDIT),
    "credit_allocations": Rights(EDIT),
    "prepaid_products": Rights(EDIT),
    # What is sold, and to whom.
    "catalog_keys": Rights(ADD),
    "products": Rights(EDIT),
    "offers": Rights(EDIT),
    "offer_items": Rights(LIST),
    "plans": Rights(EDIT),
    "prices": Rights(EDIT),
    "subscriptions": Rights(EDIT),
    "subscription_quantities": Rights(LIST),
    "coupons": Rights(EDIT),
    "coupon_redemptions": Rights(EDIT),
    "orders": Rights(EDIT),
    "order_items": Rights(EDIT),
    "order_grants": Rights(EDIT),
    "order_payments": Rights(ADD),
    "trials": Rights(EDIT),
    "trial_identities": Rights(ADD, reader=seen("pepper_id", "trial_id")),
    "referral_programs": Rights(EDIT),
    "referrals": Rights(EDIT),
    # What is owed. Triggers keep what is finalized as it is.
    "issuers": Rights(EDIT),
    "tax_rates": Rights(EDIT),
    "tax_profiles": Rights(EDIT),
    "tax_profile_rates": Rights(LIST),
    "invoice_series": Rights(EDIT),
    "invoices": Rights(EDIT, READ),
    "invoice_lines": Rights(LIST, READ),
    "invoice_discounts": Rights(LIST, READ),
    "invoice_taxes": Rights(LIST, READ),
    "late_usage": Rights(FULL),
    "late_usage_credits": Rights(ADD),
    "payments": Rights(ADD, READ),
    "credit_notes": Rights(ADD, READ),
    "credit_note_lines": Rights(ADD, READ),
    "invoice_syncs": Rights(EDIT, EDIT),
    "invoice_sync_attempts": Rights(READ, ADD),
    "provider_customers": Rights(EDIT, EDIT),
    "provider_health": Rights(READ, EDIT),
    # What came in.
    "idempotency_keys": Rights(
        EDIT, EDIT, reader=seen("tenant_id", "operation", "key", "created_at")
    ),
    "rejected_messages": Rights(
        EDIT,
        EDIT,
        EDIT,
        reader=seen(
            "id, task, tenant_id, code, state, message_id, seen_count, received_at, last_seen_at, "
            "resolved_at, resolved_by, replayed_as"
        ),
    ),
    # What goes out. Messages are never changed: a trigger refuses it.
    "outbox_messages": Rights(
        ADD,
        f"{LIST}, UPDATE (truncated)",
        ADD,
        reader=seen(
            "id, type, tenant_id, schema_version, sequence, truncated, created_at, "
            "correlation_id, traceparent"
        ),
    ),
    "outbox_pending": Rights(ADD, FULL, ADD),
    "endpoints": Rights("SELECT, UPDATE", EDIT, reader=seen(_OF_ENDPOINTS)),
    "endpoint_secrets": Rights(
        NONE, FULL, reader=seen("id", "endpoint_id", "kind", "created_at", "expires_at")
    ),
    "endpoint_health": Rights(READ, FULL),
    "deliveries": Rights(READ, FULL),
    "delivery_leases": Rights(READ, FULL),
    "delivery_attempts": Rights(
        READ,
        ADD,
        reader=seen(
            "id, attempted_at, delivery_id, endpoint_id, attempt_number, outcome, status, "
            "latency_ms, error"
        ),
    ),
    "delivery_attempts_default": Rights(NONE, "SELECT, DELETE", reader=NONE),
}
"""Every table there is: a test fails when one is missing."""

FUNCTIONS: Final[Mapping[str, Collection[Role]]] = {
    "prepare_attempts_day(date)": {Role.worker},
    "drop_attempts_day(date)": {Role.sender},
}
"""Those that act as the owner, and who may call them; all others run as whoever calls them."""


def grants(roles: Collection[Role] = tuple(Role)) -> list[str]:
    """Return the statements that give roles their rights on tables, and take away all others."""
    return [statement for role in Role if role in roles for statement in _of(role)]


def script() -> str:
    """Return what makes the roles and grants their rights, as one transaction."""
    parts = [HEAD, *(MAKE.format(role=role, meaning=MEANING[role]) for role in Role), DATABASE]
    for role in Role:
        parts.append(f"\n-- {role}: {MEANING[role]}\n")
        parts += [f"{statement};\n" for statement in _of(role)]
    return "".join([*parts, "\nCOMMIT;\n"])


def _of(role: Role) -> Iterator[str]:
    # First nothing: a right that was taken out above is gone.
    everything = textwrap.fill(
        ", ".join(TABLES), 96, initial_indent="    ", subsequent_indent="    "
    )
    yield f"REVOKE ALL ON\n{everything}\nFROM {role}"
    for table, rights in TABLES.items():
        if given := rights.of(role):
            yield f"GRANT {given} ON {table} TO {role}"
    for function, callers in FUNCTIONS.items():
        verb, to = ("GRANT", "TO") if role in callers else ("REVOKE", "FROM")
        yield f"{verb} EXECUTE ON FUNCTION {function} {to} {role}"


HEAD = """\
-- Roles with the least rights that each process needs (docs/safety.md). Printed by
-- `billing schema roles`; run it after `billing migrate`, and again whenever you like, as a
-- superuser or as an owner of the tables who may create roles:
--
--   billing schema roles | psql --set ON_ERROR_STOP=1 "$ADMIN_URL"
--
-- These are groups. Processes log in as members, as many as you like, such as
--
--   CREATE ROLE worker_1 LOGIN PASSWORD '…' IN ROLE billing_worker;
--   CREATE ROLE sender_1 LOGIN PASSWORD '…' IN ROLE billing_sender;
--   ALTER ROLE worker_1 SET log_error_verbosity = 'terse';  -- no rows in the server's log
--
-- and one that works for all queues is a member of both. `billing migrate` goes on as the owner.

BEGIN;
"""

MAKE = """
DO $$ BEGIN
    IF to_regrole('{role}') IS NULL THEN
        CREATE ROLE {role} NOLOGIN;
        COMMENT ON ROLE {role}
            IS '{meaning}';
    END IF;
END $$;
"""

DATABASE = f"""
-- Nobody but the owner makes tables, lasting or temporary, and nobody else comes in.
DO $$
DECLARE
    everyone text := '{", ".join(Role)}';
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), everyone);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), everyone);
END $$;
"""

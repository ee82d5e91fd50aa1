"""What the benchmark of the billing run begins with, and the least that writes the same rows."""

MADE = (
    "late_usage",
    "credit_note_lines",
    "credit_notes",
    "payments",
    "invoice_discounts",
    "invoice_taxes",
    "invoice_lines",
    "invoices",
)
"""Invoices, and all that can refer to one."""

FILL = (
    "INSERT INTO tenants (tenant_id) SELECT 'tenant-' || n FROM generate_series(1, {tenants}) n",
    """
    INSERT INTO subscriptions (id, tenant_id, plan_key, currency, effective_at, anchored_on,
                               billed_until, next_invoice_at)
    SELECT gen_random_uuid(), tenant_id, 'bench', 'USD', '2025-12-01Z', '2025-12-01',
           '2026-01-01', '2026-02-01Z'
    FROM tenants
    """,
    """
    INSERT INTO usage_aggregates (tenant_id, metric, granularity, period_start, period_end, total,
                                  event_count, version)
    SELECT tenant_id, metric, 'day', at, at + interval '1 day', 1000, 10, 1
    FROM tenants, (SELECT 'metric-' || n AS metric FROM generate_series(0, {prices} - 1) n) AS used,
         generate_series(timestamptz '2026-01-01Z', '2026-01-31Z', interval '1 day') AS at
    """,
    "VACUUM ANALYZE tenants, subscriptions, usage_aggregates",
)

DUE_AGAIN = """
    UPDATE subscriptions SET billed_until = '2026-01-01', next_invoice_at = '2026-02-01Z'
    WHERE {which}
"""

FIRST_TENTH = "substr(tenant_id, 8)::int % 10 = 0"

IS_DONE = "SELECT NOT EXISTS (SELECT FROM subscriptions WHERE next_invoice_at <= '2026-02-01Z')"

# The same rows as the run's, into tables with the same constraints and indexes; it knows nothing of
# time zones, versions of prices, parts of periods or subscribers.
FLOOR = """
    WITH line AS MATERIALIZED (
        SELECT subscription.id AS subscription_id, subscription.tenant_id, price.id AS price_id,
               price.metric, price.price_key, price.unit_amount, sum(day.total) AS quantity,
               round(sum(day.total) * price.unit_amount * 100)::bigint AS amount_minor,
               row_number() OVER (PARTITION BY subscription.tenant_id ORDER BY price.price_key)
               AS position
        FROM subscriptions AS subscription
        JOIN prices AS price ON price.plan_key = subscription.plan_key
        JOIN usage_aggregates AS day ON day.tenant_id = subscription.tenant_id
             AND day.metric = price.metric AND day.granularity = 'day'
             AND day.period_start >= '2026-01-01Z' AND day.period_start < '2026-02-01Z'
        GROUP BY subscription.id, price.id
    ), invoice AS (
        INSERT INTO {invoices} (id, tenant_id, currency, timezone, period_start, period_end,
                                subtotal_minor, total_minor, amount_due_minor)
        SELECT gen_random_uuid(), tenant_id, 'USD', 'UTC', '2026-01-01Z', '2026-02-01Z',
               sum(amount_minor), sum(amount_minor), sum(amount_minor)
        FROM line GROUP BY tenant_id
        RETURNING id, tenant_id
    )
    {beside}
    INSERT INTO {lines} (invoice_id, position, kind, subscription_id, price_id, metric, description,
                         quantity, unit_amount, currency, amount_minor, period_start, period_end,
                         details)
    SELECT invoice.id, position, 'usage', subscription_id, price_id, metric, price_key, quantity,
           unit_amount, 'USD', amount_minor, '2026-01-01Z', '2026-02-01Z',
           jsonb_build_object('plan_key', 'bench', 'price_key', price_key, 'model', 'per_unit',
                              'days', 31, 'days_of_period', 31)
    FROM line JOIN invoice USING (tenant_id)
"""

# What the run writes beside invoices and lines.
BESIDE = """
    , moved AS (
        UPDATE subscriptions SET billed_until = '2026-02-01', next_invoice_at = '2026-03-01Z'
        FROM invoice WHERE subscriptions.tenant_id = invoice.tenant_id
    ), message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        SELECT gen_random_uuid(), 'billing.invoice.created', tenant_id, 1, 1,
               convert_to(json_build_object(
                   'id', 'evt_' || id, 'type', 'billing.invoice.created', 'timestamp', now(),
                   'tenant_id', tenant_id, 'schema_version', 1, 'sequence', 1, 'data',
                   json_build_object(
                       'tenant_id', tenant_id, 'invoice_id', id, 'period_start', now(),
                       'period_end', now(), 'currency', 'USD', 'subtotal_minor', 1000,
                       'discount_minor', 0, 'tax_minor', 0, 'total_minor', 1000,
                       'line_count', 5))::text, 'UTF8')
        FROM invoice RETURNING id
    ), pending AS (
        INSERT INTO outbox_pending (message_id) SELECT id FROM message
    )
"""

FREEZE = """
    UPDATE {invoices} AS invoice
    SET state = 'finalized', series = 'INV', sequence = given.place, version = version + 1,
        number = 'INV-' || lpad(given.place::text, 6, '0'), finalized_at = now(), due_at = now(),
        issuer = '{{}}', billed_to = '{{}}', updated_at = now()
    FROM (SELECT id, row_number() OVER (ORDER BY period_end, tenant_id, id) AS place
          FROM {invoices} WHERE state = 'draft') AS given
    WHERE invoice.id = given.id
"""

# Usage that is priced event by event: a rate of each, with a fee that some of them are free of.
USE = """
    INSERT INTO usage_events (id, tenant_id, metric, idempotency_key, amount, at, received_at)
    SELECT gen_random_uuid(), 'tenant-' || tenant, 'paid', n::text, 10 + n % 90,
           timestamptz '2026-01-01Z' + interval '1 minute' * (n % 40000), '2026-02-01Z'
    FROM generate_series(1, {tenants}) AS tenant, generate_series(1, {events}) AS n
"""

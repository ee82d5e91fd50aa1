"""The billing run: a closed month of many tenants, priced and stored."""

import datetime as dt
from decimal import Decimal

from benchmarks import rounds
from benchmarks.report import Measure
from benchmarks.servers import OUTBOX, Stage
from models.catalog import PriceKind
from tasks.invoice_runs import generate_invoices
from tasks.plans import set_plan
from tasks.price_terms import PriceTerms

JOB = "invoices"

TENANTS = 2_000
PRICES = 3
"""And metrics, each used on every day of the month."""

RUN = "billing run, chunks of 500 tenants"
STATEMENT = "one statement: sum, price, insert"
AIM = 0.60

MADE = (
    "credit_note_lines",
    "credit_notes",
    "payments",
    "invoice_discounts",
    "invoice_taxes",
    "invoice_lines",
    "invoices",
)
"""Invoices, and all that can refer to one."""

CLOSED = dt.datetime(2026, 2, 1, 1, tzinfo=dt.UTC)

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
    FROM tenants, unnest(ARRAY['metric-0', 'metric-1', 'metric-2']) AS metric,
         generate_series(timestamptz '2026-01-01Z', '2026-01-31Z', interval '1 day') AS at
    """,
    "VACUUM ANALYZE tenants, subscriptions, usage_aggregates",
)

DUE_AGAIN = """
    UPDATE subscriptions SET billed_until = '2026-01-01', next_invoice_at = '2026-02-01Z'
"""

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
    INSERT INTO {lines} (invoice_id, position, kind, subscription_id, price_id, metric, description,
                         quantity, unit_amount, currency, amount_minor, period_start, period_end)
    SELECT invoice.id, position, 'usage', subscription_id, price_id, metric, price_key, quantity,
           unit_amount, 'USD', amount_minor, '2026-01-01Z', '2026-02-01Z'
    FROM line JOIN invoice USING (tenant_id)
"""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Invoice every tenant, then the same in one statement."""
    tenants = rounds.scaled(TENANTS, scale)
    _make_plan()
    for statement in FILL:
        stage.execute(statement.format(tenants=tenants))
    copies = stage.copy_of("invoices"), stage.copy_of("invoice_lines")
    floor = FLOOR.format(invoices=copies[0], lines=copies[1])

    def bill() -> float:
        stage.empty(*MADE, *OUTBOX)
        stage.execute(DUE_AGAIN)
        stage.execute("VACUUM ANALYZE subscriptions")
        return rounds.rate(tenants, lambda: generate_invoices(as_of=CLOSED))

    def insert() -> float:
        stage.empty(*copies)
        return rounds.rate(tenants, lambda: stage.execute(floor))

    rates = rounds.play("invoices/s", {RUN: bill, STATEMENT: insert})
    assert stage.value("SELECT count(*) FROM invoice_lines") == tenants * PRICES
    return [rates.beside(RUN, STATEMENT, job=JOB, aim=AIM)]


def _make_plan() -> None:
    set_plan(
        plan_key="bench",
        name="Bench",
        prices=[
            PriceTerms(
                price_key=f"price-{number}",
                kind=PriceKind.usage,
                metric=f"metric-{number}",
                unit_amount=Decimal("0.0125"),
                currency="USD",
            )
            for number in range(PRICES)
        ],
        as_of=dt.datetime(2025, 11, 1, tzinfo=dt.UTC),
    )

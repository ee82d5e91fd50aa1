"""Usage that arrived in the last seconds of a month is on its invoice."""

from decimal import Decimal

from sqlalchemy import Engine

from tasks.invoice_runs import generate_invoices
from tasks.usage import record_usage
from tests.integration.billing_world import instant, make_plan, query, subscribe, usage_price


def test_usage_that_no_roll_up_has_counted_yet_is_on_the_invoice(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    for tenant_id in ("ada", "bob"):
        subscribe(tenant_id, "2026-01-01")
        record_usage(
            tenant_id=tenant_id,
            metric="calls",
            amount=Decimal(5),
            at=instant("2026-01-31T23:59:59"),
            idempotency_key="last minute",
        )

    generate_invoices(as_of=instant("2026-02-01"))

    assert query("SELECT tenant_id, total_minor FROM invoices ORDER BY tenant_id") == [
        ("ada", 500),
        ("bob", 500),
    ]

"""A small world to bill: plans, tenants, days of usage, and what was said of it all."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import text

from models import database
from models.rules import period
from tasks.catalog import set_product
from tasks.coupons import redeem_coupon, set_coupon
from tasks.credits import add_credits
from tasks.issuing import set_prepaid_product
from tasks.plans import set_plan
from tasks.subscriptions import set_subscription
from tasks.taxes import set_tax_rate, set_tenant_taxes
from tasks.tenants import set_tenant

START = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)
"""When the plans of these tests are made."""


def usage_price(metric: str, unit_amount: str, **more: Any) -> dict[str, Any]:
    return {
        "price_key": metric,
        "kind": "usage",
        "metric": metric,
        "model": "per_unit",
        "unit_amount": unit_amount,
        "currency": "USD",
        **more,
    }


def fee(unit_amount: str, **more: Any) -> dict[str, Any]:
    return {
        "price_key": "base",
        "kind": "fixed",
        "model": "fixed",
        "unit_amount": unit_amount,
        "currency": "USD",
        **more,
    }


def make_plan(*prices: dict[str, Any], plan_key: str = "pro", **more: Any) -> Any:
    arguments: dict[str, Any] = {"name": plan_key.title(), "as_of": START, **more}
    return set_plan(plan_key=plan_key, **arguments, prices=cast("Any", list(prices)))


def subscribe(
    tenant_id: str,
    effective_at: str,
    *,
    timezone: str = "UTC",
    plan_key: str = "pro",
    **more: Any,
) -> Any:
    set_tenant(tenant_id=tenant_id, timezone=timezone)
    return set_subscription(
        tenant_id=tenant_id,
        plan_key=plan_key,
        effective_at=instant(effective_at),
        idempotency_key=f"{plan_key}:{effective_at}",
        **more,
    )


def use(tenant_id: str, metric: str, day: str, total: str, *, timezone: str = "UTC") -> None:
    """Put the total of one local day where the roll-up puts it; again replaces it."""
    bounds = period.day_bounds(dt.date.fromisoformat(day), period.zone(timezone))
    with database.transaction() as session:
        session.execute(
            text("""
                INSERT INTO usage_aggregates (tenant_id, metric, granularity, period_start,
                                              period_end, total, event_count, version)
                VALUES (:tenant_id, :metric, 'day', :start, :end, :total, 1, 1)
                ON CONFLICT (tenant_id, metric, granularity, period_start)
                DO UPDATE SET total = excluded.total
            """),
            {
                "tenant_id": tenant_id,
                "metric": metric,
                "start": bounds.start,
                "end": bounds.end,
                "total": Decimal(total),
            },
        )


def instant(written: str) -> dt.datetime:
    """An instant as ISO 8601; UTC if it names no zone."""
    at = dt.datetime.fromisoformat(written)
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)


def query(statement: str, **parameters: Any) -> list[Any]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(text(statement), parameters)]


def said(topic: str) -> list[dict[str, Any]]:
    """The bodies of the events of a topic, oldest first."""
    rows = query("SELECT body FROM outbox_messages WHERE type = :topic ORDER BY id", topic=topic)
    return [json.loads(bytes(body)) for (body,) in rows]


FIGURES_THAT_DIFFER = """
    SELECT invoices.id FROM invoices
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS amounts,
               coalesce(sum((SELECT sum(part) FROM unnest(discounts_minor) AS part)), 0)
               AS discounts,
               coalesce(sum((SELECT sum(part) FROM unnest(taxes_minor) AS part)), 0) AS taxes
        FROM invoice_lines WHERE invoice_id = invoices.id
    ) AS lines
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS discounts
        FROM invoice_discounts WHERE invoice_id = invoices.id
    ) AS coupons
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS taxes,
               coalesce(sum(amount_minor) FILTER (WHERE inclusive), 0) AS inside
        FROM invoice_taxes WHERE invoice_id = invoices.id
    ) AS levied
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(total_minor), 0) AS credited,
               coalesce(sum(reduced_minor), 0) AS reduced
        FROM credit_notes WHERE invoice_id = invoices.id
    ) AS notes
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor - excess_minor), 0) AS paid
        FROM payments WHERE invoice_id = invoices.id
    ) AS money
    WHERE (subtotal_minor, discount_minor, discount_minor, tax_minor, tax_minor,
           included_tax_minor, credited_minor, reduced_minor, paid_minor)
          <> (amounts, lines.discounts, coupons.discounts, lines.taxes, levied.taxes, inside,
              credited, reduced, paid)
"""

NOTES_THAT_DIFFER = """
    SELECT number FROM credit_notes
    CROSS JOIN LATERAL (
        SELECT sum(amount_minor) AS amounts,
               coalesce(sum((SELECT sum(part) FROM unnest(taxes_minor) AS part)), 0) AS taxes
        FROM credit_note_lines WHERE credit_note_id = credit_notes.id
    ) AS lines
    WHERE (subtotal_minor, tax_minor) <> (amounts, taxes)
"""


def assert_reconciled() -> None:
    """Every figure of every invoice and credit note is the sum of what it is made of."""
    assert query(FIGURES_THAT_DIFFER) == []
    assert query(NOTES_THAT_DIFFER) == []


def assert_gapless() -> None:
    """The numbers of each series are 1 to the last one that was given."""
    given = query("""
        SELECT series, array_agg(sequence ORDER BY sequence), last_number
        FROM (SELECT series, sequence FROM invoices WHERE number IS NOT NULL
              UNION ALL SELECT series, sequence FROM credit_notes) AS numbered
        JOIN invoice_series USING (series)
        GROUP BY series, last_number
    """)
    for series, sequences, last in given:
        assert sequences == list(range(1, last + 1)), series


def make_prepaid(currency: str = "USD", product_key: str = "MONEY") -> None:
    set_product(product_key=product_key, name="Money", type="quantity", is_currency=True)
    set_prepaid_product(currency=currency, product_key=product_key)


def top_up(tenant_id: str, amount: str, key: str = "top-up", **more: Any) -> Any:
    arguments: dict[str, Any] = {"product_key": "MONEY", "as_of": START, **more}
    return add_credits(tenant_id=tenant_id, amount=amount, idempotency_key=key, **arguments)


def tax(tenant_id: str, *rates: tuple[str, str], inclusive: bool = False, **more: Any) -> None:
    """Put rates, each a key and a percentage, on a tenant from the beginning."""
    for tax_key, percent in rates:
        set_tax_rate(
            tax_key=tax_key, name=tax_key.upper(), percent=percent, inclusive=inclusive, **more
        )
    set_tenant_taxes(
        tenant_id=tenant_id, tax_keys=[tax_key for tax_key, _ in rates], effective_at=START
    )


def redeem(tenant_id: str, coupon_key: str, at: dt.datetime = START, **terms: Any) -> Any:
    """Make a coupon, if terms are given, and let a tenant redeem it."""
    if terms:
        set_coupon(coupon_key=coupon_key, name=coupon_key.title(), **terms)
    return redeem_coupon(tenant_id=tenant_id, coupon_key=coupon_key, as_of=at)

"""What a change of the catalogue would take from under those who live on it."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

CHANGING = 0x63617461
"""Key of the advisory lock that lets one whole catalogue at a time be changed."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Something sold that can not be charged for, or not be granted, as the catalogue is."""

    section: str
    key: str
    reason: str


def hold(session: Session) -> None:
    """Let nobody else change the whole catalogue until the transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHANGING})


def broken(session: Session, *, now: dt.datetime) -> frozenset[Broken]:
    """Return what does not hold together: live subscriptions and offers that miss something."""
    rows = session.execute(BROKEN, {"now": now})
    return frozenset(Broken(row.section, row.key, row.reason) for row in rows)


BROKEN = text("""
    WITH live AS MATERIALIZED (
        SELECT plan_key, currency, count(*) AS subscriptions
        FROM subscriptions WHERE ended_at IS NULL OR ended_at > :now
        GROUP BY plan_key, currency
    ), needed AS (
        SELECT sku, product_key, 'grants' AS use FROM offer_items
        UNION ALL
        SELECT sku, currency_product_key, 'is paid in' FROM offers
        WHERE currency_product_key IS NOT NULL
    )
    SELECT 'plans' AS section, plan_key AS key,
           format('has %s live subscriptions in %s and would have no price in it',
                  subscriptions, currency) AS reason
    FROM live
    WHERE NOT EXISTS (
        SELECT FROM prices
        WHERE prices.plan_key = live.plan_key AND prices.currency = live.currency
          AND ended_at IS NULL
    )
    UNION ALL
    SELECT 'plans', plan_key,
           format('gives credit of %s to live subscriptions, and the product is not active',
                  product_key)
    FROM plan_credits JOIN products USING (product_key)
    WHERE ended_at IS NULL AND NOT products.active AND plan_key IN (SELECT plan_key FROM live)
    UNION ALL
    SELECT 'offers', sku,
           format('is sold and %s %s, which is not %s', use, product_key,
                  CASE WHEN products.active THEN 'a currency' ELSE 'active' END)
    FROM needed JOIN products USING (product_key) JOIN offers USING (sku)
    WHERE offers.active
      AND NOT (products.active AND (products.is_currency OR use = 'grants'))
""")

"""Locking several balances of a tenant at once, in the one order that everybody keeps."""

import datetime as dt
from collections.abc import Collection

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.credit import CreditBalance


def lock(
    session: Session, *, tenant_id: str, product_keys: Collection[str], now: dt.datetime
) -> None:
    """Lock the balances of some products of a tenant, made with zeros where there are none.

    For transactions that change several of them and must not meet them in an order of their own.
    The tenant and the products must exist.
    """
    # In order of their keys also while they are made: two transactions that both begin a tenant's
    # wallet wait for each other's new rows just as for locked ones.
    session.execute(_MAKE, {"tenant_id": tenant_id, "keys": sorted(product_keys), "now": now})
    session.execute(
        select(CreditBalance.product_key)
        .where(
            CreditBalance.tenant_id == tenant_id, CreditBalance.product_key.in_(list(product_keys))
        )
        .order_by(CreditBalance.product_key)
        .with_for_update()
    ).all()


def lock_all(session: Session, *, tenant_id: str) -> list[str]:
    """Lock every balance of a tenant, and return their product keys."""
    return list(
        session.scalars(
            select(CreditBalance.product_key)
            .where(CreditBalance.tenant_id == tenant_id)
            .order_by(CreditBalance.product_key)
            .with_for_update()
        )
    )


_MAKE = text("""
    INSERT INTO credit_balances (tenant_id, product_key, updated_at)
    SELECT tenant.tenant_id, product_key, :now
    FROM unnest(CAST(:keys AS text[])) AS given(product_key)
    JOIN tenants AS tenant ON tenant.tenant_id = :tenant_id AND tenant.merged_into IS NULL
    WHERE NOT EXISTS (SELECT FROM credit_balances AS known
                      WHERE known.tenant_id = :tenant_id
                        AND known.product_key = given.product_key)
    ORDER BY product_key
    FOR KEY SHARE OF tenant
    ON CONFLICT (tenant_id, product_key) DO NOTHING
""")

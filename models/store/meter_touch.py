"""Counting anew what a change of a meter leaves open."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store import touched


def touch_open(session: Session, *, limit: int) -> bool:
    """Log open days as touched, of the next tenants of a meter that changed; whether any was left.

    A day is open unless a finalized invoice of the tenant charged for the metric on it, or it is
    closed.

    Args:
        limit: how many tenants to look at.
    """
    # One worker a meter: the others go on with the log.
    claimed = session.execute(CLAIM_CHANGED).first()
    if claimed is None:
        return False
    session.execute(TOUCH_NEXT, {**claimed._asdict(), "limit": limit})
    return True


def touch_open_of(session: Session, tenant_ids: Collection[str]) -> None:
    """The same at once for some tenants, who are about to be invoiced."""
    # Nearly always none has changed, and then their totals are not looked at.
    if session.execute(ANY_CHANGED).scalar_one():
        session.execute(TOUCH_OF, {"tenant_ids": sorted(tenant_ids)})


ANY_CHANGED = text("SELECT EXISTS (SELECT FROM meters WHERE recount_after IS NOT NULL)")

CLAIM_CHANGED = text("""
    SELECT metric, definition, recount_after FROM meters
    WHERE recount_after IS NOT NULL ORDER BY metric LIMIT 1
    FOR UPDATE SKIP LOCKED
""")

# A voided invoice charged for nothing. What a line covers is whole days. What is closed can not be
# counted by another meter: its events may be gone.
IS_OPEN = """
    day.granularity = 'day' AND day.meter_definition <> meter.definition
    AND NOT EXISTS (
        SELECT FROM usage_horizons AS horizon
        WHERE horizon.tenant_id = day.tenant_id AND horizon.closed_until > day.period_start
    )
    AND NOT EXISTS (
        SELECT FROM invoices JOIN invoice_lines AS line ON line.invoice_id = invoices.id
        WHERE invoices.tenant_id = day.tenant_id
          AND invoices.state NOT IN ('draft', 'void')
          AND line.metric = day.metric
          AND line.period_start <= day.period_start AND day.period_start < line.period_end
    )
"""

TOUCHED_NEXT = f"""
    SELECT day.tenant_id, day.metric, day.period_start AS first_at,
           day.period_end - interval '1 microsecond' AS last_at
    FROM tenant
    CROSS JOIN (SELECT CAST(:metric AS text) AS metric,
                       CAST(:definition AS integer) AS definition) AS meter
    JOIN usage_aggregates AS day
      ON day.tenant_id = tenant.tenant_id AND day.metric = meter.metric
    WHERE {IS_OPEN}
"""  # noqa: S608 (a constant of this module)

TOUCH_NEXT = text(f"""
    WITH tenant AS MATERIALIZED (
        SELECT tenant_id FROM tenants WHERE tenant_id > :recount_after
        ORDER BY tenant_id LIMIT :limit
    ),
    touched AS (
        {touched.append(TOUCHED_NEXT)}
    )
    UPDATE meters
    SET recount_after = (
        SELECT CASE WHEN count(*) = :limit THEN max(tenant_id) END FROM tenant
    )
    WHERE metric = :metric
""")  # noqa: S608 (a constant of this module)

TOUCH_OF = text(
    touched.append(f"""
        SELECT day.tenant_id, day.metric, day.period_start AS first_at,
               day.period_end - interval '1 microsecond' AS last_at
        FROM meters AS meter
        JOIN usage_aggregates AS day
          ON day.tenant_id = ANY(CAST(:tenant_ids AS text[])) AND day.metric = meter.metric
        WHERE meter.recount_after IS NOT NULL AND {IS_OPEN}
    """)  # noqa: S608 (a constant of this module)
)

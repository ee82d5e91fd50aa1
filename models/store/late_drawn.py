"""Usage that drafts do not show yet: rows of the log of late usage that are not marked."""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.late_usage import LateUsage


def claim(session: Session, *, limit: int, after: str = "", only: str | None = None) -> list[str]:
    """Lock tenants with usage, late or in time, that their drafts do not show yet; their ids.

    In their order, from the one that follows `after`. What others hold is skipped.
    """
    given = {"limit": limit, "after": after, "only": only}
    return list(session.execute(CLAIM, given).scalars())


def not_drawn(session: Session, tenant_ids: Collection[str]) -> list[int]:
    """Return the rows of tenants that no draft shows yet. Read it before counting."""
    rows = session.execute(
        select(LateUsage.id).where(
            LateUsage.tenant_id == func.any(list(tenant_ids)), ~LateUsage.drawn
        )
    )
    return list(rows.scalars())


def mark(session: Session, ids: Sequence[int]) -> None:
    """Say of rows that all drafts of their tenants show them."""
    if ids:
        session.execute(
            update(LateUsage).where(LateUsage.id == func.any(list(ids))).values(drawn=True)
        )


NOT_DRAWN: Final = """
    late_usage AS late
    WHERE NOT drawn AND EXISTS (
        SELECT FROM invoices
        WHERE invoices.tenant_id = late.tenant_id AND invoices.state = 'draft'
    )
"""
"""What a draft should show, and does not yet."""

CLAIM = sql(f"""
    SELECT tenant_id FROM tenants
    WHERE tenant_id > :after
      AND (CAST(:only AS text) IS NULL OR tenant_id = :only)
      AND tenant_id IN (SELECT late.tenant_id FROM {NOT_DRAWN})
    ORDER BY tenant_id
    LIMIT :limit
    FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 (constants)

"""Tenants that became part of others: who an id stands for today.

`tenants.merged_into` says it, and what it says is never an alias itself. Whoever changes something
of a tenant keeps its row FOR KEY SHARE from the statement that asks; a merge takes the row of what
it merges FOR UPDATE, so it waits for all of these, and they for it, and then see what it did.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import hot


def follow(session: Session, tenant_id: str, *, hold: bool) -> str:
    """Return who an id stands for: itself, unless it was merged; itself too if nobody knows it.

    Args:
        hold: see to it that it stays so until the transaction ends.
    """
    rows = hot.execute(session, _HOLD if hold else _READ, {"tenant_id": tenant_id})
    return tenant_id if not rows or rows[0][0] is None else str(rows[0][0])


def family(session: Session, tenant_id: str) -> list[str]:
    """Return a tenant's id and those of its aliases, in order."""
    aliases = session.scalars(_ALIASES, {"tenant_id": tenant_id}).all()
    return [tenant_id, *aliases]


def of_tenants(session: Session, tenant_ids: Collection[str]) -> Mapping[str, str]:
    """Return those of the ids that are aliases, and who each stands for."""
    rows = session.execute(_OF_TENANTS, {"tenant_ids": sorted(tenant_ids)})
    return {row.tenant_id: row.merged_into for row in rows}


_READ = hot.statement("SELECT merged_into FROM tenants WHERE tenant_id = :tenant_id")

# A row that was waited for is looked at again: what is returned is what the merge has written.
_HOLD = hot.statement("SELECT merged_into FROM tenants WHERE tenant_id = :tenant_id FOR KEY SHARE")

_ALIASES = text("""
    SELECT tenant_id FROM tenants
    WHERE merged_into IS NOT NULL AND merged_into = :tenant_id ORDER BY tenant_id
""")

_OF_TENANTS = text("""
    SELECT tenant_id, merged_into FROM tenants
    WHERE tenant_id = ANY(CAST(:tenant_ids AS text[])) AND merged_into IS NOT NULL
""")

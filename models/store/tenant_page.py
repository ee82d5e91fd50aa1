"""Tenants listed, page after page, and what each is besides its profile."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.tenant import Tenant


def page(
    session: Session, *, behind: str, prefix: str, merged: bool | None, limit: int
) -> Sequence[Tenant]:
    """Return tenants in the order of their ids, at most `limit` of those behind one.

    Args:
        behind: the last id of the page before, "" to begin.
        prefix: of their ids; "" is any.
        merged: only aliases, or only tenants that are none; None is both.
    """
    statement = select(Tenant).where(Tenant.tenant_id > behind).order_by(Tenant.tenant_id)
    if prefix:
        statement = statement.where(Tenant.tenant_id.startswith(prefix, autoescape=True))
    if merged is not None:
        statement = statement.where(Tenant.merged_into.is_not(None) == merged)
    return session.scalars(statement.limit(limit)).all()

"""The one place where a tenant's id becomes that of the tenant it was merged into."""

from typing import Any

from models import database
from models.store import alias
from tasks.spec import Spec


def of_today(session: database.Session, spec: Spec, sent: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with the tenant of today, who stays so until it has ended."""
    tenant_id = sent.get("tenant_id")
    if not spec.follows_alias or not tenant_id:
        return sent
    owner = alias.follow(session, tenant_id, hold=not spec.only_reads)
    return sent if owner == tenant_id else {**sent, "tenant_id": owner}


def alone(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a job, which opens transactions of its own, with that tenant."""
    if not sent.get("tenant_id"):
        return sent
    with database.transaction() as session:
        return {**sent, "tenant_id": alias.follow(session, sent["tenant_id"], hold=False)}

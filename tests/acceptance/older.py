"""A task as an older release had it, for a worker of that release. Never imported by a test."""

from models import database
from tasks import contract
from tasks.queues import Queue


@contract.command("billing.test_paint", queue=Queue.billing)
def paint(session: database.Session, *, tenant_id: str) -> str:
    """Paint a tenant white."""
    return f"{tenant_id} is white"

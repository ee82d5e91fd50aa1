"""The same task as the next release has it, and one that is new. Never imported by a test."""

from models import database
from tasks import contract
from tasks.queues import Queue


@contract.command("billing.test_paint", queue=Queue.billing)
def paint(session: database.Session, *, tenant_id: str, colour: str = "white") -> str:
    """Paint a tenant."""
    return f"{tenant_id} is {colour}"


@contract.command("billing.test_wash", queue=Queue.billing)
def wash(session: database.Session, *, tenant_id: str) -> str:
    """Wash a tenant."""
    return f"{tenant_id} is clean"

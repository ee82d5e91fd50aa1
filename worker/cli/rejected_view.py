"""How rejected messages are shown."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from models.inbox import RejectedMessage


def table(found: Sequence[RejectedMessage]) -> Table:
    """Return a table of messages, without their payloads."""
    table = Table("id")
    for heading in ("task", "tenant", "code"):
        table.add_column(heading, no_wrap=True)
    for heading in ("reason", "seen", "last seen"):
        table.add_column(heading)
    for row in found:
        table.add_row(
            str(row.id),
            row.task,
            row.tenant_id or "",
            row.code,
            reasons(row.errors),
            str(row.seen_count),
            f"{row.last_seen_at:%Y-%m-%d %H:%M:%SZ}",
        )
    return table


def reasons(errors: Sequence[dict[str, Any]]) -> str:
    """Return in one line what was wrong."""
    said = [(error.get("field"), error["reason"]) for error in errors]
    return "; ".join(f"{field}: {reason}" if field else reason for field, reason in said)


def shown(row: RejectedMessage) -> dict[str, Any]:
    """Return a message as JSON, without its payload."""
    return {
        "id": row.id,
        "task": row.task,
        "tenant_id": row.tenant_id,
        "code": row.code,
        "errors": row.errors,
        "state": row.state,
        "message_id": row.message_id,
        "seen_count": row.seen_count,
        "received_at": row.received_at.isoformat(),
        "last_seen_at": row.last_seen_at.isoformat(),
        "resolved_at": None if row.resolved_at is None else row.resolved_at.isoformat(),
        "resolved_by": row.resolved_by,
    }

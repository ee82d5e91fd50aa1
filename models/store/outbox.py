"""The outbox: what happened, written by the transaction that made it happen."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import Session

from models.outbox import OutboxMessage, OutboxPending


@dataclass(frozen=True, slots=True)
class Message:
    """An event ready to be stored: `body` is the very bytes every subscriber will get."""

    id: UUID
    type: str
    tenant_id: str
    schema_version: int
    sequence: int
    body: bytes
    truncated: bool


def add(session: Session, messages: Sequence[Message], *, now: dt.datetime) -> None:
    """Store messages and queue them for fan-out, all in the caller's transaction."""
    if not messages:
        return
    rows = [
        {
            "id": message.id,
            "type": message.type,
            "tenant_id": message.tenant_id,
            "schema_version": message.schema_version,
            "sequence": message.sequence,
            "body": message.body,
            "truncated": message.truncated,
            "created_at": now,
        }
        for message in messages
    ]
    session.execute(insert(OutboxMessage), rows)
    session.execute(insert(OutboxPending), [{"message_id": message.id} for message in messages])

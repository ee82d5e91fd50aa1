"""The outbox: what happened, written by the transaction that made it happen."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


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
    session.execute(
        _ADD,
        {
            "ids": [message.id for message in messages],
            "types": [message.type for message in messages],
            "tenant_ids": [message.tenant_id for message in messages],
            "schema_versions": [message.schema_version for message in messages],
            "sequences": [message.sequence for message in messages],
            # As text, which a body is: bytes in an array would be written in hexadecimal.
            "bodies": [message.body.decode() for message in messages],
            "truncated": [message.truncated for message in messages],
            "now": now,
        },
    )


# One statement and one round trip for both tables, for one message as for thousands.
_ADD = text("""
WITH message AS (
    INSERT INTO outbox_messages
        (id, type, tenant_id, schema_version, sequence, body, truncated, created_at)
    SELECT id, type, tenant_id, schema_version, sequence, convert_to(body, 'UTF8'), truncated,
           CAST(:now AS timestamptz)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:types AS text[]), CAST(:tenant_ids AS text[]),
        CAST(:schema_versions AS smallint[]), CAST(:sequences AS bigint[]),
        CAST(:bodies AS text[]), CAST(:truncated AS boolean[]))
        AS given(id, type, tenant_id, schema_version, sequence, body, truncated)
    RETURNING id
)
INSERT INTO outbox_pending (message_id) SELECT id FROM message
""")

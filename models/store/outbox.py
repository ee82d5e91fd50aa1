"""The outbox: what happened, written by the transaction that made it happen."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store import ending
from models.store.ending import Part
from models.store.recordset import Recordset


@dataclass(frozen=True, slots=True)
class Message:
    """An event ready to be stored: `body` is the very bytes every subscriber will get.

    `correlation_id` and `traceparent` say whose work told of it, where that is known.
    """

    id: UUID
    type: str
    tenant_id: str
    schema_version: int
    sequence: int
    body: bytes
    truncated: bool
    correlation_id: str | None = None
    traceparent: str | None = None


def add(session: Session, messages: Sequence[Message], *, now: dt.datetime) -> None:
    """Store messages and queue them for fan-out, all in the caller's transaction."""
    if not messages:
        return
    rows = [_row(message, now) for message in messages]
    if ending.gathers(session):
        # A new list: a savepoint that is undone goes back to the one there was.
        session.info[_GATHERED] = [*session.info.get(_GATHERED, ()), *rows]
    else:
        ending.write(session, [_stored(rows)], Part("SELECT 1", {}))


def taken(session: Session) -> Sequence[Part]:
    """Return what stores the messages that wait for the end of a command, and let none wait."""
    rows = session.info.pop(_GATHERED, None)
    return [_stored(rows)] if rows else []


def add_for_one(session: Session, message: Message, *, endpoint_id: UUID, now: dt.datetime) -> int:
    """Store a message for one endpoint alone, which is locked; return its delivery's id.

    It passes the fan-out by: no other endpoint hears of it, whatever it subscribed to.
    """
    delivery_id: int = session.scalars(
        _ADD_FOR_ONE,
        {
            "id": message.id,
            "type": message.type,
            "tenant_id": message.tenant_id,
            "schema_version": message.schema_version,
            "sequence": message.sequence,
            "body": message.body,
            "truncated": message.truncated,
            "correlation_id": message.correlation_id,
            "traceparent": message.traceparent,
            "endpoint": endpoint_id,
            "now": now,
        },
    ).one()
    return delivery_id


def _row(message: Message, now: dt.datetime) -> tuple[Any, ...]:
    return (
        message.id,
        message.type,
        message.tenant_id,
        message.schema_version,
        message.sequence,
        message.body.decode(),
        message.truncated,
        now,
        message.correlation_id,
        message.traceparent,
    )


def _stored(rows: Sequence[tuple[Any, ...]]) -> Part:
    return Part(_storing(_GIVEN.shape(rows)), _GIVEN.parameters(rows))


_GATHERED = "outbox_messages"

_GIVEN = Recordset(
    "given",
    {
        "id": "uuid",
        "type": "text",
        "tenant_id": "text",
        "schema_version": "smallint",
        "sequence": "bigint",
        # Text stays as it is in JSON, byte for byte.
        "body": "text",
        "truncated": "boolean",
        "created_at": "timestamptz",
        "correlation_id": "text",
        "traceparent": "text",
    },
    few=2,
)


@cache
def _storing(shape: int) -> str:
    """Return the expressions that store messages of this shape.

    One statement and one round trip for both tables, for one message as for thousands.
    """
    return f"""
    message AS (
        INSERT INTO outbox_messages
            (id, type, tenant_id, schema_version, sequence, body, truncated, created_at,
             correlation_id, traceparent)
        SELECT id, type, tenant_id, schema_version, sequence, convert_to(body, 'UTF8'), truncated,
               created_at, correlation_id, traceparent
        FROM {_GIVEN.source(shape)}
        RETURNING id
    ), pending AS (INSERT INTO outbox_pending (message_id) SELECT id FROM message)
"""  # noqa: S608 (constants of this module)


# Due by the database's clock at the latest, as in a fan-out.
_ADD_FOR_ONE = text("""
WITH message AS (
    INSERT INTO outbox_messages
        (id, type, tenant_id, schema_version, sequence, body, truncated, created_at,
         correlation_id, traceparent)
    VALUES (:id, :type, :tenant_id, :schema_version, :sequence, :body, :truncated, :now,
            :correlation_id, :traceparent)
    RETURNING id, created_at
)
INSERT INTO deliveries (message_id, endpoint_id, due_at)
SELECT id, CAST(:endpoint AS uuid), least(created_at, statement_timestamp()) FROM message
RETURNING id
""")

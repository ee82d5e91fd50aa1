"""Events made of rows by the database itself, in the statement that made them happen.

For chores that tell of thousands of rows: a body that is built in Python costs several times what
its row does. Byte for byte it is what `webhooks.events.serialise` makes of the same event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from models.rules import ids

STEP_BITS: Final = 32
"""Neighbours among the ids of a statement are 2 ^ 32 apart, give or take as much, at random."""


class Kind(StrEnum):
    """How a column is written in a body."""

    text = "text"
    quantity = "quantity"
    instant = "instant"
    instant_or_null = "instant_or_null"
    identifier = "identifier"
    integer = "integer"


@dataclass(frozen=True, slots=True)
class Topic:
    """An event and, in the order they are sent, the columns that are its data.

    Its body must be below the limit of a body whatever the columns hold.
    """

    type: str
    schema_version: int
    columns: Sequence[tuple[str, Kind]]


@dataclass(frozen=True, slots=True)
class Telling:
    """A topic, and the ids its events get: from `first` on, 2 ^ STEP_BITS for each place.

    `seed` is a secret number of 62 bits, from which the distances between them come.
    `correlation_id` and `traceparent` say whose work tells of them, where that is known.
    """

    topic: Topic
    first: UUID
    seed: int
    correlation_id: str | None = None
    traceparent: str | None = None


def expressions(topic: Topic, rows: str, *, name: str) -> str:
    """Return common table expressions that store an event for each of `rows` and queue it.

    They are parts of a statement with `parameters(…, name=name)` and `:now`, the instant at which
    it happened.

    Args:
        rows: a query of `tenant_id`, `sequence`, `place` (a number from 0 on, for the order in
            which they are to be heard) and the topic's columns.
        name: what the expressions and parameters are called by, once in the statement.
    """
    return f"""
    {name}_message AS (
        INSERT INTO outbox_messages
            (id, type, tenant_id, schema_version, sequence, body, created_at, correlation_id,
             traceparent)
        SELECT message_id, '{topic.type}', tenant_id, {topic.schema_version}, sequence,
               convert_to({_body(topic)}, 'UTF8'), :now,
               CAST(:{name}_correlation_id AS text), CAST(:{name}_traceparent AS text)
        FROM (SELECT told.*, {_ID.format(name=name)} AS message_id FROM ({rows}) AS told) AS told
        RETURNING id
    ), {name}_pending AS (
        INSERT INTO outbox_pending (message_id) SELECT id FROM {name}_message
    )"""  # noqa: S608 (constants of the callers' modules)


def parameters(telling: Telling, *, name: str) -> dict[str, Any]:
    """Return what `expressions` of this name need."""
    head, tail = divmod(telling.first.int, 1 << 64)
    return {
        f"{name}_head": f"{head:016x}",
        # The variant's first bit is a minus for PostgreSQL.
        f"{name}_tail": tail - (1 << 64),
        f"{name}_seed": telling.seed,
        f"{name}_correlation_id": telling.correlation_id,
        f"{name}_traceparent": telling.traceparent,
    }


_ID = (
    f"CAST(:{{name}}_head || to_hex(:{{name}}_tail + (place << {STEP_BITS})"
    f" + (hashint8extended(place, :{{name}}_seed) & {(1 << STEP_BITS) - 1})) AS uuid)"
)


def _body(topic: Topic) -> str:
    """Return the expression of a body, its envelope first: see `webhooks.events.serialise`."""
    # The instant is the same for all: a query of its own is answered once.
    instant = _value("CAST(:now AS timestamptz)", Kind.instant)
    return " || ".join(
        (
            _literal('{"id":"' + ids.EVENT_PREFIX),
            "replace(CAST(message_id AS text), '-', '')",
            _literal(f'","type":"{topic.type}","timestamp":'),
            f"(SELECT {instant})",
            _literal(',"tenant_id":'),
            _value("tenant_id", Kind.text),
            _literal(f',"schema_version":{topic.schema_version},"sequence":'),
            "sequence",
            _literal(',"data":{'),
            " || ',' || ".join(_field(column, kind) for column, kind in topic.columns),
            _literal("}}"),
        )
    )


def _field(column: str, kind: Kind) -> str:
    return _literal(f'"{column}":') + " || " + _value(column, kind)


def _value(column: str, kind: Kind) -> str:
    match kind:
        case Kind.text:
            return f"CAST(to_json(CAST({column} AS text)) AS text)"
        case Kind.quantity:
            return f"""'"' || trim_scale({column}) || '"'"""
        case Kind.identifier:
            return f"""'"' || {column} || '"'"""
        case Kind.integer:
            return column
        case Kind.instant_or_null:
            return f"coalesce({_value(column, Kind.instant)}, 'null')"
        case Kind.instant:
            # Fractions of a second only where there are any, as Python writes them.
            return (
                f"""'"' || to_char({column} AT TIME ZONE 'UTC',"""
                f" CASE WHEN {column} = date_trunc('second', {column}, 'UTC')"
                """ THEN 'YYYY-MM-DD"T"HH24:MI:SS' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US' END) || 'Z"'"""
            )


def _literal(json: str) -> str:
    """Return a piece of JSON as a SQL literal in which SQLAlchemy finds no parameter."""
    return "'" + json.replace("'", "''").replace(":", "\\:") + "'"

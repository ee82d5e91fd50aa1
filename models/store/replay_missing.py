"""Deliveries made of messages that an endpoint asks for and never got.

It was created or enabled later, or asked for more since. The fan-out looks at a message once;
this looks again, at what has been said in a stretch of time.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules import ids
from models.store.relay import settle

LOOKED_AT: Final = 10_000
"""Messages that one transaction looks at, however few of them anybody lacks."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are looked for, and on whose behalf; None is any.

    Args:
        since: that happened then or later.
        until: that happened before.
        endpoint_id: lacked by this endpoint.
        tenant_id: lacked by an endpoint of this tenant.
        type: exactly.
        operator_topics: types that the operator's endpoints alone hear of.
        private_topics: types that are told to one endpoint, whatever anybody asked for.
    """

    since: dt.datetime
    until: dt.datetime
    endpoint_id: UUID | None
    tenant_id: str | None
    type: str | None
    operator_topics: Collection[str]
    private_topics: Collection[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A message and an endpoint: how far a search has come. `FIRST` is before all."""

    message_id: UUID
    endpoint_id: UUID


FIRST: Final = Place(UUID(int=0), UUID(int=0))
_LAST_ENDPOINT: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """How many were found, and where the next chunk goes on; None at the end."""

    found: int
    next: Place | None


# Ids begin with the time, so a stretch of time is one of the primary key.
#
# What waits to be relayed is the relay's. An endpoint hears of its own tenant and of those that
# became part of it, the operator's of all, and alone of some: as in the fan-out.
_LACKING = """
    WITH looked AS MATERIALIZED (
        SELECT m.id, m.type, m.created_at, coalesce((
            SELECT merged_into FROM tenants WHERE tenants.tenant_id = m.tenant_id
        ), m.tenant_id) AS tenant_id
        FROM outbox_messages m
        WHERE m.id >= :message AND m.id >= :first AND m.id < :end
        ORDER BY m.id LIMIT :looked_at
    ), asking AS MATERIALIZED (
        SELECT e.id, e.tenant_id, e.topics, e.ordered FROM endpoints e
        WHERE e.state = 'enabled' AND {scope}
    ), asked AS (
        SELECT m.*, e.id AS endpoint_id, e.topics, e.ordered
        FROM looked m JOIN asking e ON e.tenant_id = m.tenant_id
        WHERE m.type <> ALL(:operator_topics)
        UNION ALL
        SELECT m.*, e.id, e.topics, e.ordered
        FROM looked m JOIN asking e ON e.tenant_id IS NULL
    ), lacking AS MATERIALIZED (
        SELECT m.id AS message_id, m.endpoint_id, m.created_at, m.ordered
        FROM asked m
        WHERE m.created_at >= :since AND m.created_at < :until
          AND {type} AND m.type <> ALL(:private_topics)
          AND (m.id, m.endpoint_id) > (CAST(:message AS uuid), CAST(:after AS uuid))
          AND EXISTS (
            SELECT FROM unnest(m.topics) AS topic
            WHERE topic IN ('*', m.type)
               OR (right(topic, 2) = '.*' AND starts_with(m.type, left(topic, -1))))
          AND NOT EXISTS (
            SELECT FROM deliveries d WHERE d.message_id = m.id AND d.endpoint_id = m.endpoint_id)
          AND NOT EXISTS (SELECT FROM outbox_pending p WHERE p.message_id = m.id)
        ORDER BY m.id, m.endpoint_id LIMIT :most
    )
"""

_COUNT = """
    SELECT (SELECT count(*) FROM lacking) AS found,
           (SELECT count(*) FROM looked) AS looked,
           (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_looked,
           last.message_id, last.endpoint_id
    FROM (SELECT) AS one LEFT JOIN (
        SELECT message_id, endpoint_id FROM lacking
        ORDER BY message_id DESC, endpoint_id DESC LIMIT 1) AS last ON true
"""

# To an ordered endpoint a delivery is due since its message was written: that is its place.
# Messages are locked against a purge; one that is just being purged is gone.
_INSERT = """
    , locked AS MATERIALIZED (
        SELECT id FROM outbox_messages
        WHERE id = ANY(ARRAY(SELECT message_id FROM lacking))
        FOR KEY SHARE SKIP LOCKED
    ), made AS (
        INSERT INTO deliveries (message_id, endpoint_id, due_at, replayed_at)
        SELECT message_id, endpoint_id,
               CASE WHEN ordered THEN created_at
                    ELSE least(CAST(:now AS timestamptz), statement_timestamp()) END, :now
        FROM lacking JOIN locked ON locked.id = message_id
        ORDER BY message_id, endpoint_id
        ON CONFLICT DO NOTHING
        RETURNING message_id
    )
    SELECT counted.*, ARRAY(SELECT DISTINCT message_id FROM made) AS messages,
           (SELECT count(*) FROM made) AS made
    FROM ({count}) AS counted
"""


def count(session: Session, wanted: Wanted, *, after: Place, most: int) -> Chunk:
    """Return how many deliveries there would be, of a chunk.

    Args:
        after: where the chunk before ended.
        most: deliveries at once.
    """
    row = session.execute(_statement(wanted, _COUNT), _asked(wanted, after, most)).one()
    return Chunk(row.found, _next(row, most))


def make(session: Session, wanted: Wanted, *, after: Place, most: int, now: dt.datetime) -> Chunk:
    """Make the deliveries that endpoints lack, due now, a chunk of them.

    Args:
        after: where the chunk before ended.
        most: deliveries at once.
    """
    statement = _statement(wanted, _INSERT.format(count=_COUNT))
    row = session.execute(statement, {**_asked(wanted, after, most), "now": now}).one()
    if row.messages:
        settle(session, row.messages, now=now)
    return Chunk(row.made, _next(row, most))


def _statement(wanted: Wanted, end: str) -> Any:
    """Write down what is asked for and nothing else: each part by its own index."""
    conditions = {
        "e.tenant_id = :tenant": wanted.tenant_id,
        "e.id = :endpoint": wanted.endpoint_id,
    }
    beginning = _LACKING.format(
        scope=" AND ".join(one for one, value in conditions.items() if value) or "true",
        type="true" if wanted.type is None else "m.type = :type",
    )
    return text(beginning + end)


def _asked(wanted: Wanted, after: Place, most: int) -> dict[str, Any]:
    given: dict[str, Any] = {
        "message": after.message_id,
        "after": after.endpoint_id,
        "first": ids.uuid7(wanted.since, 0),
        "end": ids.uuid7(wanted.until, 0),
        "since": wanted.since,
        "until": wanted.until,
        "operator_topics": list(wanted.operator_topics),
        "private_topics": list(wanted.private_topics),
        "looked_at": LOOKED_AT,
        "most": most,
    }
    named: Sequence[tuple[str, Any]] = (
        ("tenant", wanted.tenant_id),
        ("endpoint", wanted.endpoint_id),
        ("type", wanted.type),
    )
    return given | {name: value for name, value in named if value is not None}


def _next(row: Any, most: int) -> Place | None:
    if row.found == most:
        return Place(row.message_id, row.endpoint_id)
    if row.looked == LOOKED_AT:
        return Place(row.last_looked, _LAST_ENDPOINT)
    return None

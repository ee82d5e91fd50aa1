"""From the outbox to the deliveries: which endpoints hear of a message."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

# A message is taken off the queue and given to its endpoints in one statement. The queue, unlike a
# cursor over ids, can not skip a message whose transaction commits late. SKIP LOCKED lets two
# relays work side by side.
#
# A relay whose clock is fast would put deliveries off: they are due by the database's clock at the
# latest. To an ordered endpoint a delivery is due since its message was written, whoever relays it:
# that is its place in the order.
#
# The two halves of `e` each use ix_endpoints_tenant_id; an OR of them would use none. A prefix
# "billing.*" means children only: it is compared with its full stop.
_FAN_OUT = text("""
    WITH taken AS (
        DELETE FROM outbox_pending
        WHERE message_id = ANY(ARRAY(
            SELECT message_id FROM outbox_pending
            ORDER BY message_id LIMIT :most FOR UPDATE SKIP LOCKED))
        RETURNING message_id
    ), fanned AS (
        INSERT INTO deliveries (message_id, endpoint_id, state, due_at)
        SELECT m.id, e.id, CASE e.state WHEN 'enabled' THEN 'pending' ELSE 'held' END,
               CASE WHEN e.ordered THEN m.created_at
                    ELSE least(CAST(:now AS timestamptz), statement_timestamp()) END
        FROM taken
        JOIN outbox_messages m ON m.id = taken.message_id
        CROSS JOIN LATERAL (
            SELECT id, state, topics, ordered FROM endpoints
            WHERE tenant_id = coalesce((
                SELECT merged_into FROM tenants WHERE tenants.tenant_id = m.tenant_id
            ), m.tenant_id) AND m.type <> ALL(:operator_topics)
            UNION ALL
            SELECT id, state, topics, ordered FROM endpoints WHERE tenant_id IS NULL) AS e
        WHERE e.state <> 'deleted' AND EXISTS (
            SELECT FROM unnest(e.topics) AS topic
            WHERE topic IN ('*', m.type)
               OR (right(topic, 2) = '.*' AND starts_with(m.type, left(topic, -1))))
        ORDER BY m.id, e.id
        ON CONFLICT DO NOTHING
        RETURNING message_id
    ), heard AS (
        SELECT message_id, count(*) AS endpoints FROM fanned GROUP BY message_id
    )
    SELECT m.id, m.type, m.tenant_id, m.correlation_id, coalesce(heard.endpoints, 0) AS endpoints
    FROM taken
    JOIN outbox_messages m ON m.id = taken.message_id
    LEFT JOIN heard ON heard.message_id = taken.message_id
    ORDER BY m.id
""")

# The foreign key made the insert above wait for an endpoint that was just being disabled, enabled
# or deleted, but what it inserted was chosen before. This statement sees the outcome. A change that
# comes later waits for our commit and then sees our rows, so between them none is left behind.
_SETTLE = text("""
    UPDATE deliveries d
    SET state = CASE e.state
            WHEN 'enabled' THEN 'pending' WHEN 'disabled' THEN 'held' ELSE 'cancelled' END,
        completed_at = CASE WHEN e.state = 'deleted' THEN CAST(:now AS timestamptz) END
    FROM endpoints e
    WHERE d.message_id = ANY(:messages) AND e.id = d.endpoint_id
      AND ((d.state = 'pending' AND e.state <> 'enabled')
        OR (d.state = 'held' AND e.state <> 'disabled'))
""")


@dataclass(frozen=True, slots=True)
class Relayed:
    """A message that was given to so many endpoints, and whose work told of it if that is known."""

    message_id: UUID
    type: str
    tenant_id: str
    correlation_id: str | None
    endpoints: int


def fan_out(
    session: Session, *, most: int, now: dt.datetime, operator_topics: Collection[str] = ()
) -> list[Relayed]:
    """Give waiting messages to every endpoint that subscribed to them; return the messages.

    A tenant's endpoint hears of its tenant and of those that became part of it, an operator's of
    all and alone of `operator_topics`. A disabled endpoint's deliveries are held. An endpoint hears
    what is relayed from its creation on.

    Args:
        most: messages at once.
        now: when the deliveries are due, unless it is still to come by the database's clock.
    """
    given = {"most": most, "now": now, "operator_topics": list(operator_topics)}
    taken = [Relayed(*row) for row in session.execute(_FAN_OUT, given)]
    if taken:
        settle(session, [one.message_id for one in taken], now=now)
    return taken


def settle(session: Session, message_ids: Sequence[UUID], *, now: dt.datetime) -> None:
    """Let deliveries that this transaction has made obey what became of their endpoints meanwhile.

    In a statement after the one that made them.
    """
    session.execute(_SETTLE, {"messages": list(message_ids), "now": now})

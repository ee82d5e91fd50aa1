"""The statements of a claim: which endpoints get a turn, which of their deliveries, their keys."""

from typing import Final

from models import hot

# Until the end of the transaction, which a claim is at. These statements were written so that no
# value makes another plan the better one, and to plan them for each claim took a fifth of it.
#
# Without sorts the first rows of an endpoint come from ix_deliveries_due, whatever the statistics
# say. Where they know of few rows an endpoint the planner reads all of them and sorts: of an
# endpoint that got half a million since, at each claim, while everybody else waits. What has to
# be sorted here at the end still is.
#
# Without scans of whole tables a message is a step down an index, though the planner expects
# thousands of rows where there are few endpoints: it read all messages that are kept for each
# claim. And a plan of when a table had one page does not go on reading all of it.
PLAN_ONCE: Final = hot.statement("""
    SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
           set_config('enable_sort', 'off', true),
           set_config('enable_incremental_sort', 'off', true),
           set_config('enable_seqscan', 'off', true)
""")

# From one endpoint that has something waiting to the next, each step one probe of
# ix_deliveries_due: idle endpoints are never seen, and of a backlog only its first row that is not
# under way: those are few, since an endpoint gets few at once, and are hashed once. It goes
# round: from the cursor to the end, then from the beginning to the cursor, no further than asked.
_NEXT = """
    (SELECT d.endpoint_id, d.due_at FROM deliveries d
     WHERE d.state = 'pending' AND d.endpoint_id > {after} AND {until}
       AND d.id NOT IN (SELECT delivery_id FROM under_way)
     ORDER BY d.endpoint_id, d.due_at LIMIT 1)
"""
_ROUND = """
    {name} AS (
        {first}
        UNION ALL
        SELECT next.endpoint_id, next.due_at FROM {name} CROSS JOIN LATERAL {next} AS next
    )
"""


def _round(name: str, *, after: str, until: str) -> str:
    first = _NEXT.format(after=after, until=until)
    following = _NEXT.format(after=f"{name}.endpoint_id", until=until)
    return _ROUND.format(name=name, first=first, next=following)


# What a rate limit has left: up to a second's worth, less what was taken faster than it allows.
_TOKENS = """
    ceil({rate} / 60.0)
        - ceil({rate} / 60.0 * greatest(0, extract(epoch FROM h.paced_until - :now)))
"""

# Endpoints that may get something are locked, and their hosts: the caps that are counted in the
# next statement hold whoever else claims. Nothing here waits: an endpoint or a host that somebody
# else has is his. The CASE is for the order: locks are for those alone that passed all else. NO KEY
# UPDATE does not stand in the way of the foreign keys that a fan-out checks.
_LOCK = """
    WITH RECURSIVE {busy}, {ahead}, {behind}, waiting AS (
        SELECT endpoint_id, due_at FROM ahead UNION ALL SELECT endpoint_id, due_at FROM behind
    )
    SELECT e.* FROM waiting CROSS JOIN LATERAL (
        SELECT e.id, e.host, coalesce(e.tenant_id, '') AS owner, e.url, e.headers, e.ordered,
               e.rate_per_minute
        FROM endpoints e
        WHERE e.id = waiting.endpoint_id AND CASE WHEN
            e.state = 'enabled' AND NOT (e.ordered AND e.unsettled)
            AND e.id <> ALL(ARRAY(SELECT endpoint_id FROM busy WHERE lanes >= :per_endpoint))
            AND e.host <> ALL(ARRAY(
                SELECT b.host FROM busy JOIN endpoints b ON b.id = busy.endpoint_id
                GROUP BY b.host HAVING sum(busy.lanes) >= :per_host))
            AND coalesce(e.tenant_id, '') <> ALL(CAST(:full_owners AS text[]))
            AND e.id <> ALL(CAST(:without AS uuid[]))
            AND (NOT e.ordered OR e.id <> ALL(ARRAY(SELECT endpoint_id FROM busy)))
            AND (SELECT (h.hold_until IS NULL OR h.hold_until <= :now)
                    AND (h.probe_at IS NULL OR h.probe_at <= :now)
                    AND (NOT h.single AND h.probe_at IS NULL
                         OR e.id <> ALL(ARRAY(SELECT endpoint_id FROM busy)))
                    AND (e.rate_per_minute IS NULL OR {tokens} > 0)
                 FROM endpoint_health h WHERE h.endpoint_id = e.id) IS NOT FALSE
            THEN pg_try_advisory_xact_lock(:hosts_key, hashtext(e.host)) ELSE false END
        FOR NO KEY UPDATE SKIP LOCKED) AS e
    WHERE waiting.due_at <= :now OR e.ordered
    LIMIT :rows
"""

_BUSY = """
    under_way AS MATERIALIZED (SELECT delivery_id, endpoint_id FROM delivery_leases),
    busy AS MATERIALIZED (
        SELECT endpoint_id, count(*) AS lanes FROM under_way GROUP BY endpoint_id
    )
"""

LOCK: Final = hot.statement(
    _LOCK.format(
        busy=_BUSY,
        ahead=_round("ahead", after="CAST(:cursor AS uuid)", until="true"),
        behind=_round(
            "behind",
            after="'00000000-0000-0000-0000-000000000000'",
            until="d.endpoint_id <= CAST(:cursor AS uuid)",
        ),
        tokens=_TOKENS.format(rate="e.rate_per_minute"),
    )
)

# A statement of its own: it sees what the last holders of these locks have committed, so the counts
# of what is under way are exact. No delivery is locked: those of an endpoint that wait are moved by
# the holder of its lock alone, and none has two leases.
#
# An ordered endpoint gets its oldest (its instants are an order and nothing to wait for), and waits
# for older messages that a relay has in its hands.
_LEASE = """
    WITH asked AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:endpoints AS jsonb)) AS e(
            id uuid, place integer, host text, owner text, taken integer, ordered boolean,
            rate integer)
    ), {busy}, busy_host AS MATERIALIZED (
        SELECT b.host, sum(busy.lanes) AS lanes
        FROM busy JOIN endpoints b ON b.id = busy.endpoint_id
        WHERE b.host = ANY(ARRAY(SELECT host FROM asked)) GROUP BY b.host
    ), chosen AS MATERIALIZED (
        SELECT e.*,
            coalesce(h.review_at IS NOT NULL OR h.probe_at IS NOT NULL OR h.single, false)
                AS unwell,
            least(:share, {tokens}, -coalesce(busy.lanes, 0) + CASE
                WHEN h.hold_until > :now OR h.probe_at > :now THEN 0
                WHEN e.ordered OR h.single OR h.probe_at IS NOT NULL THEN 1
                ELSE :per_endpoint END) AS room,
            :per_host - coalesce(busy_host.lanes, 0) AS room_of_host,
            CASE WHEN e.ordered THEN (
                SELECT message_id FROM outbox_pending ORDER BY message_id LIMIT 1) END AS unrelayed
        FROM asked e
        LEFT JOIN endpoint_health h ON h.endpoint_id = e.id
        LEFT JOIN busy ON busy.endpoint_id = e.id
        LEFT JOIN busy_host ON busy_host.host = e.host
    ), found AS (
        SELECT due.*, c.id AS endpoint_id, c.unwell, c.place, c.room_of_host, c.taken,
               row_number() OVER (PARTITION BY c.host ORDER BY due.nth, c.place) AS of_host,
               row_number() OVER (PARTITION BY c.owner ORDER BY due.nth, c.place) AS of_owner
        FROM chosen c CROSS JOIN LATERAL (
            SELECT oldest.*, row_number() OVER () AS nth FROM (
                SELECT d.id, d.message_id, d.attempt_count, d.due_at FROM deliveries d
                WHERE d.endpoint_id = c.id AND d.state = 'pending'
                  AND d.id NOT IN (SELECT delivery_id FROM under_way)
                  AND d.due_at <= CASE WHEN c.ordered THEN 'infinity' ELSE :now END
                  AND (c.unrelayed IS NULL OR d.message_id < c.unrelayed)
                ORDER BY d.due_at, d.id LIMIT greatest(c.room, 0)) AS oldest) AS due
    ), taken AS MATERIALIZED (
        SELECT found.id, found.endpoint_id, found.place, found.unwell, found.message_id,
               found.attempt_count, found.due_at
        FROM found
        WHERE found.of_host <= found.room_of_host AND found.of_owner <= :per_owner - found.taken
        ORDER BY found.nth, found.place
        LIMIT :rows
    ), leased AS (
        INSERT INTO delivery_leases (delivery_id, endpoint_id, lease_token, leased_until)
        SELECT id, endpoint_id, :token, clock_timestamp() + CAST(:lease AS interval) FROM taken
    ), paced AS (
        INSERT INTO endpoint_health AS h (endpoint_id, paced_until)
        SELECT c.id, :now + make_interval(secs => count(*) * 60.0 / c.rate)
        FROM taken JOIN chosen c ON c.id = taken.endpoint_id
        WHERE c.rate > 0 GROUP BY c.id, c.rate
        ON CONFLICT (endpoint_id) DO UPDATE SET paced_until =
            greatest(coalesce(h.paced_until, :now), :now) + (excluded.paced_until - :now)
    )
    SELECT taken.place, clock_timestamp() AS clock, taken.id, taken.attempt_count,
           taken.message_id, m.type, m.schema_version, m.body, m.tenant_id, m.correlation_id,
           m.traceparent, taken.unwell
    FROM taken
    JOIN outbox_messages m ON m.id = taken.message_id
    ORDER BY taken.due_at, taken.id
"""

# Newest first: the key that a receiver moves to signs even when there are too many. A statement of
# its own: an endpoint's keys are read and handed over once, not with each of its deliveries.
KEYS: Final = hot.statement("""
    SELECT endpoint_id, sealed FROM endpoint_secrets
    WHERE endpoint_id = ANY(CAST(:endpoints AS uuid[]))
      AND (expires_at IS NULL OR expires_at > :now)
    ORDER BY created_at DESC, id
""")

LEASE: Final = hot.statement(_LEASE.format(busy=_BUSY, tokens=_TOKENS.format(rate="e.rate")))

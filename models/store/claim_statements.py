"""The two statements of a claim: which endpoints get a turn, and which of their deliveries."""

from typing import Final

from sqlalchemy import text

# From one endpoint that has something waiting to the next, each step one probe of
# ix_deliveries_due: idle endpoints are never seen, and of a backlog only its first row. It goes
# round: from the cursor to the end, then from the beginning to the cursor, no further than asked.
_NEXT = """
    (SELECT d.endpoint_id, d.due_at FROM deliveries d
     WHERE d.state = 'pending' AND d.endpoint_id > {after} AND {until}
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
    WITH RECURSIVE {ahead}, {behind}, busy AS MATERIALIZED (
        SELECT endpoint_id, count(*) AS lanes FROM deliveries
        WHERE state = 'sending' GROUP BY endpoint_id
    ), waiting AS (
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

LOCK: Final = text(
    _LOCK.format(
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
# of what is under way are exact. No row is locked before it is updated: pending deliveries of an
# endpoint are moved by the holder of its lock alone. ARRAY(…) makes the update look rows up by id.
#
# An ordered endpoint gets its oldest (its instants are an order and nothing to wait for), and waits
# for older messages that a relay has in its hands.
# Secrets come newest first: the key that a receiver moves to signs even when there are too many.
_LEASE = """
    WITH asked AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:endpoints AS jsonb)) AS e(
            id uuid, place integer, host text, owner text, taken integer, ordered boolean,
            rate integer)
    ), busy AS MATERIALIZED (
        SELECT endpoint_id, count(*) AS lanes FROM deliveries
        WHERE state = 'sending' GROUP BY endpoint_id
    ), busy_host AS MATERIALIZED (
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
            CASE WHEN e.ordered THEN (
                SELECT message_id FROM outbox_pending ORDER BY message_id LIMIT 1) END AS unrelayed
        FROM asked e
        LEFT JOIN endpoint_health h ON h.endpoint_id = e.id
        LEFT JOIN busy ON busy.endpoint_id = e.id
    ), found AS (
        SELECT due.id, due.nth, c.place, c.host, c.taken,
               row_number() OVER (PARTITION BY c.host ORDER BY due.nth, c.place) AS of_host,
               row_number() OVER (PARTITION BY c.owner ORDER BY due.nth, c.place) AS of_owner
        FROM chosen c CROSS JOIN LATERAL (
            SELECT oldest.id, row_number() OVER () AS nth FROM (
                SELECT d.id FROM deliveries d
                WHERE d.endpoint_id = c.id AND d.state = 'pending'
                  AND d.due_at <= CASE WHEN c.ordered THEN 'infinity' ELSE :now END
                  AND (c.unrelayed IS NULL OR d.message_id < c.unrelayed)
                ORDER BY d.due_at, d.id LIMIT greatest(c.room, 0)) AS oldest) AS due
    ), leased AS (
        UPDATE deliveries
        SET state = 'sending', lease_token = :token,
            leased_until = clock_timestamp() + CAST(:lease AS interval)
        WHERE state = 'pending' AND id = ANY(ARRAY(
            SELECT found.id FROM found
            LEFT JOIN busy_host ON busy_host.host = found.host
            WHERE found.of_host <= :per_host - coalesce(busy_host.lanes, 0)
              AND found.of_owner <= :per_owner - found.taken
            ORDER BY found.nth, found.place
            LIMIT :rows))
        RETURNING id, message_id, endpoint_id, attempt_count, due_at
    ), paced AS (
        INSERT INTO endpoint_health AS h (endpoint_id, paced_until)
        SELECT c.id, :now + make_interval(secs => count(*) * 60.0 / c.rate)
        FROM leased JOIN chosen c ON c.id = leased.endpoint_id
        WHERE c.rate > 0 GROUP BY c.id, c.rate
        ON CONFLICT (endpoint_id) DO UPDATE SET paced_until =
            greatest(coalesce(h.paced_until, :now), :now) + (excluded.paced_until - :now)
    ), keys AS MATERIALIZED (
        SELECT c.id, c.unwell, ARRAY(
            SELECT s.sealed FROM endpoint_secrets s
            WHERE s.endpoint_id = c.id AND (s.expires_at IS NULL OR s.expires_at > :now)
            ORDER BY s.created_at DESC, s.id) AS sealed
        FROM chosen c WHERE c.room > 0
    )
    SELECT leased.endpoint_id, leased.id, leased.attempt_count, leased.message_id, m.type,
           m.schema_version, m.body, m.tenant_id, m.correlation_id, m.traceparent, keys.unwell,
           keys.sealed, clock_timestamp() AS clock
    FROM leased
    JOIN outbox_messages m ON m.id = leased.message_id
    JOIN keys ON keys.id = leased.endpoint_id
    ORDER BY leased.due_at, leased.id
"""

LEASE: Final = text(_LEASE.format(tokens=_TOKENS.format(rate="e.rate")))

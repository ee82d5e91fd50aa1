"""Usage of a tenant that became part of another one follows it, chunk by chunk.

What the source was billed for stays under its id: the invoice is in its name, and would else be
adjusted for usage that is gone. So of a metric, events move from the end of the last period on that
an invoice of the source with a number charged for it; of a metric that was never charged for, all
move. What is closed, of either tenant, stays too.

An event whose key the target has used is the same fact if it says the same: it stays behind, and
counts once. If it says something else it stays behind too, and is kept as a rejected message, as it
would have been had it come under the target's id. Days are touched on both sides, so totals follow;
what a period that was billed to the target comes to now is late usage like any other.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.rules.states import FINAL_INVOICE_STATES
from models.store import horizon, recorded, touched

CHUNK: Final = 2_000
"""Events that one transaction looks at."""

_FIRST_ID: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Stray:
    """An event that stays behind because its key is used: `field` says in what it differs."""

    metric: str
    idempotency_key: str
    amount: str
    at: dt.datetime
    metadata: dict[str, Any]
    field: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a chunk. `target` is whose the events are now; `is_last`: no more follow."""

    source: str
    target: str
    looked_at: int
    moved: int
    duplicates: int
    conflicts: tuple[Stray, ...]
    is_last: bool


def next_open(session: Session) -> UUID | None:
    """Lock a merge whose usage has not all followed yet and nobody else works on; the oldest."""
    found: UUID | None = session.scalars(NEXT).first()
    return found


def move_chunk(session: Session, merge_id: UUID, *, now: dt.datetime) -> Moved:
    """Move the next events of a locked merge, and remember how far it came.

    Call it in a transaction of its own.
    """
    merge = session.execute(READ, {"id": merge_id}).one()
    # Shared, so that the target is not merged away in the meantime: what moves there has arrived
    # before its own usage begins to move.
    target: str = session.execute(HOLD_TARGET, {"source": merge.source_id}).scalar_one()
    horizon.hold(session, target)
    given = _given(session, merge, target, now)
    chunk = session.execute(LOOK, given).all()
    strays = [_stray(row) for row in chunk if row.field is not None]
    duplicates = sum(row.is_known and row.field is None for row in chunk)
    moving = [row.id for row in chunk if row.moves and not row.is_known]
    if moving:
        session.execute(MOVE, {**given, "ids": moving})
    is_last = len(chunk) < CHUNK
    if is_last:
        session.execute(FORGET, {"source": merge.source_id})
    session.execute(
        REMEMBER,
        {
            "id": merge_id,
            "metric": chunk[-1].metric if chunk else merge.after_metric,
            "at": chunk[-1].at if chunk else merge.after_at,
            "event": chunk[-1].id if chunk else merge.after_id,
            "moved": len(moving),
            "duplicate": duplicates,
            "conflict": len(strays),
            "left": sum(not row.moves for row in chunk),
            "done_at": now if is_last else None,
        },
    )
    return Moved(
        merge.source_id, target, len(chunk), len(moving), duplicates, tuple(strays), is_last
    )


def _given(session: Session, merge: Row[Any], target: str, now: dt.datetime) -> dict[str, Any]:
    closed = horizon.of_tenants(session, [merge.source_id, target])
    return {
        "source": merge.source_id,
        "target": target,
        "metric": merge.after_metric,
        "at": merge.after_at or dt.datetime(1, 1, 1, tzinfo=dt.UTC),
        "event": merge.after_id or _FIRST_ID,
        "open_from": max(closed.values(), default=dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
        "final": sorted(FINAL_INVOICE_STATES),
        "limit": CHUNK,
        "now": now,
    }


def _stray(row: Row[Any]) -> Stray:
    return Stray(
        metric=row.metric,
        idempotency_key=row.idempotency_key,
        amount=format(row.amount, "f"),
        at=row.at,
        metadata=row.metadata,
        field=row.field,
    )


NEXT = text("""
    SELECT id FROM tenant_merges WHERE usage_moved_at IS NULL
    ORDER BY merged_at LIMIT 1 FOR UPDATE SKIP LOCKED
""")

READ = text("SELECT * FROM tenant_merges WHERE id = :id")

HOLD_TARGET = text("SELECT merged_into FROM tenants WHERE tenant_id = :source FOR SHARE")

# The source gets no event any more, so a walk along the index of its events meets each of them
# once. A step goes on in the same or the next metric.
LOOK = text(f"""
    WITH billed AS MATERIALIZED (
        SELECT line.metric, max(line.period_end) AS until
        FROM invoices JOIN invoice_lines AS line ON line.invoice_id = invoices.id
        WHERE invoices.tenant_id = :source AND invoices.state = ANY(CAST(:final AS text[]))
          AND line.kind = 'usage'
        GROUP BY line.metric
    ),
    chunk AS MATERIALIZED (
        SELECT id, metric, at, idempotency_key, amount, metadata FROM usage_events
        WHERE tenant_id = :source AND (metric, at) >= (:metric, :at)
          AND (metric, at, id) > (:metric, :at, CAST(:event AS uuid))
        ORDER BY metric, at, id LIMIT :limit
    ),
    sent AS MATERIALIZED (
        SELECT chunk.*, usage_event_id(:target, chunk.metric, idempotency_key) AS new_id,
               at >= :open_from AND (billed.until IS NULL OR at >= billed.until) AS moves
        FROM chunk LEFT JOIN billed ON billed.metric = chunk.metric
    )
    SELECT sent.id, sent.metric, sent.at, sent.idempotency_key, sent.amount, sent.metadata,
           sent.moves, sent.moves AND coalesce(stored.id, kept.id) IS NOT NULL AS is_known,
           CASE WHEN sent.moves AND stored.id IS NOT NULL THEN {recorded.DIFFERING}
                WHEN sent.moves AND kept.at <> sent.at THEN 'at'
                WHEN sent.moves AND kept.amount <> sent.amount THEN 'amount' END AS field
    FROM sent
    LEFT JOIN usage_events AS stored ON stored.id = sent.new_id
    LEFT JOIN usage_purged_keys AS kept ON kept.id = sent.new_id
    ORDER BY sent.metric, sent.at, sent.id
""")  # noqa: S608 (a constant)

_SPANS = f"""
    SELECT whose.tenant_id, metric, min(at) AS first_at, max(at) AS last_at
    FROM moved CROSS JOIN unnest(ARRAY[CAST(:source AS text), :target]) AS whose(tenant_id)
    GROUP BY whose.tenant_id, metric, {touched.HOUR}
"""  # noqa: S608 (a constant)

# An event that does not count goes with its void, and into no quota.
MOVE = text(f"""
    WITH moving AS MATERIALIZED (
        SELECT id, usage_event_id(:target, metric, idempotency_key) AS new_id
        FROM usage_events WHERE id = ANY(CAST(:ids AS uuid[]))
    ),
    moved AS (
        UPDATE usage_events AS event SET tenant_id = :target, id = moving.new_id
        FROM moving WHERE event.id = moving.id
        RETURNING event.id, event.metric, event.at, event.amount
    ),
    voided AS (
        UPDATE usage_voids AS void SET tenant_id = :target, event_id = moving.new_id
        FROM moving WHERE void.event_id = moving.id
        RETURNING void.event_id
    ),
    arrived AS (
        INSERT INTO quota_arrivals (tenant_id, metric, at, amount)
        SELECT :target, metric, date_bin('15 minutes', at, timestamptz 'epoch'), sum(amount)
        FROM moved JOIN quota_metrics USING (metric)
        WHERE moved.id NOT IN (SELECT event_id FROM voided)
        GROUP BY metric, 3
    )
    {touched.append(_SPANS)}
""")  # noqa: S608 (constants)

FORGET = text("""
    WITH arrivals AS (DELETE FROM quota_arrivals WHERE tenant_id = :source)
    DELETE FROM quota_counters WHERE tenant_id = :source
""")

REMEMBER = text("""
    UPDATE tenant_merges
    SET after_metric = :metric, after_at = :at, after_id = :event,
        events_moved = events_moved + :moved, events_duplicate = events_duplicate + :duplicate,
        events_conflict = events_conflict + :conflict, events_left = events_left + :left,
        usage_moved_at = :done_at
    WHERE id = :id
""")

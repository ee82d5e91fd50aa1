"""Keeping quota counters: what has arrived goes into them, and they are proved against events."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.rules.quota import Window
from models.store import counting, entitled, quota
from models.store.quota import PAIR_KEY, Counted

KEPT_FOR = dt.timedelta(days=3)
"""How long after its window a counter is kept. What it says is said by the events for ever."""

Pair = tuple[str, str]
"""A tenant and a metric."""

BEGINNING: Pair = ("", "")


@dataclass(frozen=True, slots=True)
class Folded:
    """One chunk: pairs whose arrivals were counted, the last pair looked at (None: no more).

    `exceeded` are the windows, of those that run, in which more was used than the limit.
    """

    pairs: int
    last: Pair | None
    exceeded: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """A counter that is not what its window's events come to."""

    tenant_id: str
    metric: str
    window: Window
    window_start: dt.datetime
    stored: Decimal
    counted: Decimal


@dataclass(frozen=True, slots=True)
class Checked:
    """One chunk: the last tenant that was looked at (None: there was none), counters, drifts."""

    last_tenant_id: str | None
    counters: int
    drifts: tuple[Drift, ...]


def fold(session: Session, *, after: Pair, limit: int, now: dt.datetime) -> Folded:
    """Move what has arrived of the next pairs into counters; pass over pairs that are in use.

    Counters are made where a tenant has a right to the metric. They stay locked until the
    transaction ends.

    Args:
        after: the pair after which to begin.
        limit: how many pairs to look at.
    """
    claimed = session.execute(CLAIM, {"tenant_id": after[0], "metric": after[1], "limit": limit})
    rows = claimed.all()
    if not rows:
        return Folded(0, None, ())
    # Later statements than the locks: what others counted before is seen by all of them.
    ours = {(row.tenant_id, row.metric) for row in rows if row.is_ours}
    counted = _fold(session, ours, now) if ours else []
    exceeded = tuple(each for each in counted if each.standing.is_exceeded)
    last = (rows[-1].tenant_id, rows[-1].metric)
    return Folded(len(ours), last if len(rows) == limit else None, exceeded)


def check(session: Session, *, after: str, limit: int) -> Checked:
    """Add up the events of the next tenants' counters and compare, as of one instant.

    Args:
        after: the tenant after whom to begin.
        limit: how many tenants.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    rows = session.execute(COMPARE, {"after": after, "limit": limit}).all()
    drifts = tuple(_drift(row) for row in rows if row.stored != row.counted)
    return Checked(rows[-1].tenant_id if rows else None, len(rows), drifts)


def mend(session: Session, *, tenant_id: str, metric: str, now: dt.datetime) -> list[Drift]:
    """Make the counters of a tenant's metric what their events come to; return those that were not.

    Of several who mend at once, one finds them.
    """
    quota.lock(session, tenant_id=tenant_id, metric=metric)
    rows = session.execute(MEND, {"tenant_id": tenant_id, "metric": metric, "now": now})
    return [_drift(row) for row in rows if row.stored != row.counted]


def forget(session: Session, *, limit: int, now: dt.datetime) -> int:
    """Delete counters of windows that are long over, at most `limit`; return how many."""
    gone = session.execute(FORGET, {"before": now - KEPT_FOR, "limit": limit})
    return len(gone.all())


def _drift(row: Row[Any]) -> Drift:
    return Drift(
        row.tenant_id,
        row.metric,
        Window(row.window_unit),
        row.starts_at,
        row.stored,
        row.counted,
    )


def _fold(session: Session, pairs: set[Pair], now: dt.datetime) -> list[Counted]:
    tenant_ids = sorted({tenant_id for tenant_id, _ in pairs})
    metrics = sorted({metric for _, metric in pairs})
    rights = entitled.find(session, tenant_ids, metrics=metrics, at=now)
    wanted = [
        span
        for tenant_id, metric in sorted(pairs)
        if tenant_id in rights
        for span in quota.spans(rights[tenant_id], tenant_id, metric, at=now)
    ]
    return quota.fold(session, wanted, pairs, now=now)


CLAIM = text(f"""
    WITH pair AS MATERIALIZED (
        SELECT DISTINCT tenant_id, metric FROM quota_arrivals
        WHERE (tenant_id, metric) > (:tenant_id, :metric)
        ORDER BY tenant_id, metric LIMIT :limit
    )
    SELECT tenant_id, metric,
           pg_try_advisory_xact_lock({PAIR_KEY.format(tenant_id="tenant_id", metric="metric")})
           AS is_ours
    FROM pair ORDER BY tenant_id, metric
""")  # noqa: S608 (a constant)

# What has arrived in a span and is in no counter yet.
ARRIVED = """
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(arrival.amount), 0) AS amount
        FROM quota_arrivals AS arrival
        WHERE arrival.tenant_id = span.tenant_id AND arrival.metric = span.metric
          AND arrival.at >= span.starts_at AND arrival.at < span.ends_at
    ) AS arrived
"""

# The events of a window that begins behind the horizon may be gone: it is long over.
IS_OPEN = """
    NOT EXISTS (
        SELECT FROM usage_horizons AS horizon
        WHERE horizon.tenant_id = quota_counters.tenant_id AND closed_until > window_start
    )
"""

COMPARE = text(f"""
    WITH tenant AS MATERIALIZED (
        SELECT DISTINCT tenant_id FROM quota_counters WHERE tenant_id > :after
        ORDER BY tenant_id LIMIT :limit
    )
    SELECT span.tenant_id, span.metric, span.window_unit, span.starts_at,
           span.used + arrived.amount AS stored, sums.total AS counted
    FROM (
        SELECT tenant_id, metric, window_unit, window_start AS starts_at, window_end AS ends_at,
               used
        FROM quota_counters JOIN tenant USING (tenant_id)
        WHERE {IS_OPEN}
    ) AS span
    {ARRIVED}
    {counting.PLAIN_SUMS}
    ORDER BY span.tenant_id, span.metric, span.starts_at, span.window_unit
""")  # noqa: S608 (constants)

MEND = text(f"""
    WITH taken AS (
        DELETE FROM quota_arrivals WHERE tenant_id = :tenant_id AND metric = :metric
    )
    UPDATE quota_counters AS counter
    SET used = summed.counted, version = counter.version + 1, updated_at = :now
    FROM (
        SELECT span.*, span.used + arrived.amount AS stored, sums.total AS counted
        FROM (
            SELECT tenant_id, metric, window_unit, window_start AS starts_at,
                   window_end AS ends_at, used
            FROM quota_counters
            WHERE tenant_id = :tenant_id AND metric = :metric AND {IS_OPEN}
        ) AS span
        {ARRIVED}
        {counting.PLAIN_SUMS}
    ) AS summed
    WHERE counter.tenant_id = summed.tenant_id AND counter.metric = summed.metric
      AND counter.window_start = summed.starts_at AND counter.window_unit = summed.window_unit
      AND counter.used <> summed.counted
    RETURNING summed.*
""")  # noqa: S608 (constants)

FORGET = text("""
    DELETE FROM quota_counters WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM quota_counters WHERE window_end < :before
        ORDER BY window_end LIMIT :limit FOR UPDATE SKIP LOCKED
    ))
    RETURNING 1
""")

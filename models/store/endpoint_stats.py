"""How well an endpoint answers, and what waits for it."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store.delivery_lease import IS_LEASED

MOST_ATTEMPTS: Final = 50_000
"""That are looked at, the newest: a busy endpoint has as many in a minute."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How attempts ended.

    Args:
        attempts: how many, 50,000 at most.
        outcomes: how many ended how.
        p50_ms: half of them took no longer; None where there are none.
        p95_ms: 95 of a hundred took no longer.
        since: when the first of them began.
    """

    attempts: int
    outcomes: Mapping[str, int]
    p50_ms: int | None
    p95_ms: int | None
    since: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not arrived: how many in each state, how many are due, and the oldest of those."""

    pending: int
    sending: int
    held: int
    dead: int
    due: int
    oldest_due_at: dt.datetime | None


# Percentiles are of the discrete kind: a latency that was measured, an integer.
_ANSWERS = text("""
    WITH newest AS MATERIALIZED (
        SELECT outcome, latency_ms, attempted_at FROM delivery_attempts
        WHERE endpoint_id = :endpoint AND attempted_at >= :since AND attempted_at <= :until
        ORDER BY attempted_at DESC LIMIT :most
    )
    SELECT count(*) AS attempts, min(attempted_at) AS since,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50_ms,
           percentile_disc(0.95) WITHIN GROUP (ORDER BY latency_ms) AS p95_ms,
           coalesce((SELECT jsonb_object_agg(outcome, times) FROM (
               SELECT outcome, count(*) AS times FROM newest GROUP BY outcome) AS by_outcome), '{}')
               AS outcomes
    FROM newest
""")

# Each state by its own partial index, and never a look at what was delivered.
_BACKLOG = text(f"""
    SELECT waiting.*,
        (SELECT count(*) FROM delivery_leases WHERE endpoint_id = :endpoint) AS sending,
        (SELECT count(*) FROM deliveries
         WHERE state = 'held' AND endpoint_id = :endpoint) AS held,
        (SELECT count(*) FROM deliveries
         WHERE state = 'dead' AND endpoint_id = :endpoint) AS dead
    FROM (
        SELECT count(*) AS pending, count(*) FILTER (WHERE due_at <= :now) AS due,
               min(due_at) FILTER (WHERE due_at <= :now) AS oldest_due_at
        FROM deliveries d
        WHERE state = 'pending' AND endpoint_id = :endpoint AND NOT {IS_LEASED}) AS waiting
""")  # noqa: S608 (a constant)


def answers(
    session: Session, endpoint_id: UUID, *, since: dt.datetime, until: dt.datetime
) -> Answers:
    """Return how the attempts of a stretch of time ended; of many the newest 50,000."""
    asked = {"endpoint": endpoint_id, "since": since, "until": until, "most": MOST_ATTEMPTS}
    row = session.execute(_ANSWERS, asked).one()
    return Answers(row.attempts, row.outcomes, row.p50_ms, row.p95_ms, row.since)


def backlog(session: Session, endpoint_id: UUID, *, now: dt.datetime) -> Backlog:
    """Return what waits for an endpoint."""
    row = session.execute(_BACKLOG, {"endpoint": endpoint_id, "now": now}).one()
    return Backlog(row.pending, row.sending, row.held, row.dead, row.due, row.oldest_due_at)

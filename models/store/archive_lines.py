"""The events of an archive, read as the lines of its file."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.usage_archive import UsageArchive

CHUNK: Final = 5_000
"""Events that are read at a time."""

_NOTHING = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Place:
    """An event, by the order in which archives hold them."""

    metric: str
    at: dt.datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Lines:
    """Some events as JSON lines, in order, all of one metric; `amount` is their sum."""

    text: str
    event_count: int
    amount: Decimal
    first_at: dt.datetime
    last: Place


def read(session: Session, archive: UsageArchive, *, most: int) -> Iterator[Lines]:
    """Yield the events of a due archive in order, at most `most` of them.

    They lie behind the horizon: whenever this is asked, they are the same.
    """
    place = _start(archive)
    while most > 0 and place is not None:
        found = session.execute(LINES, _after(archive, place, limit=min(most, CHUNK))).one()
        if found.event_count:
            place = Place(place.metric, found.last_at, found.last_id)
            most -= found.event_count
            yield Lines(found.lines, found.event_count, found.amount, found.first_at, place)
        else:
            place = _next_metric(session, archive, place.metric)


def has_more(session: Session, archive: UsageArchive, last: Place) -> bool:
    """Tell whether an archive's month has events beyond its last one."""
    place: Place | None = last
    while place is not None:
        if session.execute(LINES, _after(archive, place, limit=1)).one().event_count:
            return True
        place = _next_metric(session, archive, place.metric)
    return False


def _start(archive: UsageArchive) -> Place | None:
    if archive.after_metric is None or archive.after_at is None or archive.after_id is None:
        # No metric is named so: the first one follows.
        return Place("", archive.period_start, _NOTHING)
    return Place(archive.after_metric, archive.after_at, archive.after_id)


def _after(archive: UsageArchive, place: Place, *, limit: int) -> dict[str, Any]:
    return {
        "tenant_id": archive.tenant_id,
        "starts_at": archive.period_start,
        "ends_at": archive.period_end,
        "metric": place.metric,
        "at": place.at,
        "id": place.id,
        "limit": limit,
    }


def _next_metric(session: Session, archive: UsageArchive, metric: str) -> Place | None:
    given = {"tenant_id": archive.tenant_id, "metric": metric}
    following = session.scalar(NEXT_METRIC, given)
    return None if following is None else Place(following, archive.period_start, _NOTHING)


# A line is an event as a producer sends it, and what is known of it beyond that.
LINES = text("""
    SELECT string_agg(to_json(line)::text || chr(10), '' ORDER BY picked.at, picked.id) AS lines,
           count(*) AS event_count, sum(picked.amount) AS amount, min(picked.at) AS first_at,
           max(picked.at) AS last_at,
           (array_agg(picked.id ORDER BY picked.at DESC, picked.id DESC))[1] AS last_id
    FROM (
        SELECT * FROM usage_events
        WHERE tenant_id = :tenant_id AND metric = :metric
          AND at >= :starts_at AND at < :ends_at
          AND (at, id) > (CAST(:at AS timestamptz), CAST(:id AS uuid))
        ORDER BY at, id LIMIT :limit
    ) AS picked
    LEFT JOIN usage_voids AS voided ON voided.event_id = picked.id
    CROSS JOIN LATERAL (
        SELECT picked.tenant_id, picked.metric, picked.idempotency_key,
               picked.amount::text AS amount, picked.at, picked.received_at, picked.metadata,
               voided.reason AS void_reason, voided.actor AS void_actor, voided.voided_at
    ) AS line
""")

NEXT_METRIC = text("""
    SELECT metric FROM usage_events WHERE tenant_id = :tenant_id AND metric > :metric
    ORDER BY metric LIMIT 1
""")

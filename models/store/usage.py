"""Usage events: stored once each, whoever sends them how often."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store import tenant, touched


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event whose key was used before for another one.

    Args:
        index: its place in what was given to `record`, from 0.
        field: the first of `amount`, `at` and `metadata` in which it differs from what is stored.
    """

    index: int
    field: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a chunk: how many events are new, and which are not (by their places)."""

    accepted: int
    duplicates: tuple[int, ...]
    conflicts: tuple[Conflict, ...]


def record(session: Session, events: Sequence[Mapping[str, Any]], *, now: dt.datetime) -> Recorded:
    """Store the events that are not stored yet and log the days they touched.

    Of two events with one key in `events` the first is stored; the other is compared with it.
    Tenants nobody has introduced are created with defaults.

    Args:
        events: valid ones, each with `tenant_id`, `metric`, `idempotency_key`, `amount` (an int, or
            the decimal as text) and, where known, `at` (an aware datetime) and `metadata`; what
            orjson can write, at most some 10,000.
        now: when they arrived; the `at` of those that have none.
    """
    if not events:
        return Recorded(0, (), ())
    # First of all the tenants, in order: every transaction takes its locks tenants, events.
    tenant.ensure_all(session, {event["tenant_id"] for event in events}, now=now)
    stored = session.execute(INSERT, {"events": _json(events), "now": now}).scalar_one()
    if stored is None:
        return Recorded(len(events), (), ())
    is_new = set(stored)
    known = [index for index in range(len(events)) if index not in is_new]
    return _compare(session, events, known)


def expect(session: Session, events: Sequence[Mapping[str, Any]]) -> Recorded:
    """Tell what `record` would find of events that have distinct keys, and store nothing."""
    if not events:
        return Recorded(0, (), ())
    found = session.execute(EXPECT, {"events": _json(events)}).all()
    known = [(index, row.differing) for index, row in enumerate(found) if row.is_known]
    return _recorded(len(events), known)


def _compare(
    session: Session, events: Sequence[Mapping[str, Any]], known: Sequence[int]
) -> Recorded:
    """Tell duplicates from conflicts, in a statement after the insert.

    What kept an event out may have been committed while the insert ran, so only a later snapshot is
    sure to see it.
    """
    sent = _json([events[index] for index in known])
    differing = session.execute(COMPARE, {"events": sent}).scalars().all()
    return _recorded(len(events), list(zip(known, differing, strict=True)))


def _recorded(sent: int, known: Sequence[tuple[int, str | None]]) -> Recorded:
    return Recorded(
        accepted=sent - len(known),
        duplicates=tuple(index for index, field in known if field is None),
        conflicts=tuple(Conflict(index, field) for index, field in known if field is not None),
    )


def _json(events: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(events).decode()


# One statement for a chunk, half as quick as a bare COPY and many times quicker than a statement an
# event. Rows go in ordered by id: two transactions that share keys wait, and do not deadlock; and
# of one key the event that came first wins. The days touched are logged from what was inserted, by
# UTC day, so that a span is bounded; and of metrics that have quotas, what came in a quarter of an
# hour, for their counters (models/store/quota.py). What comes back is NULL when every event is new,
# which is nearly always, and otherwise the places of those that are.
SENT = """
    ROWS FROM (jsonb_to_recordset(CAST(:events AS jsonb)) AS (
        tenant_id text, metric text, idempotency_key text, amount numeric, at timestamptz,
        metadata jsonb
    )) WITH ORDINALITY AS event(tenant_id, metric, idempotency_key, amount, at, metadata, place)
"""

TOUCH = touched.append("""
    SELECT tenant_id, metric, min(at) AS first_at, max(at) AS last_at
    FROM inserted
    GROUP BY tenant_id, metric, (at AT TIME ZONE 'UTC')::date
""")

INSERT = text(f"""
    WITH sent AS MATERIALIZED (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, event.* FROM {SENT}
    ),
    inserted AS (
        INSERT INTO usage_events
            (id, tenant_id, metric, idempotency_key, amount, at, received_at, metadata)
        SELECT id, tenant_id, metric, idempotency_key, amount,
               coalesce(at, :now), :now, coalesce(metadata, '{{}}')
        FROM sent
        ORDER BY id, place
        ON CONFLICT (id) DO NOTHING
        RETURNING id, tenant_id, metric, at, amount
    ),
    touched AS (
        {TOUCH}
    ),
    arrived AS (
        INSERT INTO quota_arrivals (tenant_id, metric, at, amount)
        SELECT tenant_id, metric, date_bin('15 minutes', at, timestamptz 'epoch'), sum(amount)
        FROM inserted JOIN quota_metrics USING (metric)
        GROUP BY 1, 2, 3
    )
    SELECT CASE WHEN (SELECT count(*) FROM inserted) < (SELECT count(*) FROM sent) THEN (
        SELECT coalesce(array_agg(place - 1), '{{}}') FROM (
            SELECT min(place) AS place FROM sent JOIN inserted USING (id) GROUP BY id
        ) AS first
    ) END
""")  # noqa: S608 (a constant of this module)

# The same content is the same number, whatever its zeros, the same metadata and the same instant;
# an event sent without one means "when it arrived".
DIFFERING = """
    CASE
        WHEN stored.amount <> sent.amount THEN 'amount'
        WHEN stored.at <> coalesce(sent.at, stored.received_at) THEN 'at'
        WHEN stored.metadata <> coalesce(sent.metadata, '{}') THEN 'metadata'
    END AS differing
"""

COMPARE = text(f"""
    SELECT {DIFFERING}
    FROM (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, event.* FROM {SENT}
    ) AS sent
    JOIN usage_events AS stored ON stored.id = sent.id
    ORDER BY sent.place
""")  # noqa: S608 (a constant of this module)

EXPECT = text(f"""
    SELECT stored.id IS NOT NULL AS is_known, {DIFFERING}
    FROM (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, event.* FROM {SENT}
    ) AS sent
    LEFT JOIN usage_events AS stored ON stored.id = sent.id
    ORDER BY sent.place
""")  # noqa: S608 (a constant of this module)

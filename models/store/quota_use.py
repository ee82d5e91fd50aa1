"""Using a quota: the event and what it adds to its counters, stored together."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from models.store import touched
from models.store.quota import COUNTS_SPAN, SPANS, Span, given


@dataclass(frozen=True, slots=True)
class Use:
    """An event to be: `amount`, above 0, of a tenant's metric, used now."""

    tenant_id: str
    metric: str
    amount: Decimal
    idempotency_key: str
    details: dict[str, Any]


def use(session: Session, event: Use, *, now: dt.datetime) -> bool:
    """Store a usage event and raise the counters of its windows.

    Returns:
        False if its key was known, or usage of that time is closed; then nothing has changed.

    The pair must be locked, and its counters settled.
    """
    stored: int = session.execute(
        USE,
        {
            "tenant_id": event.tenant_id,
            "metric": event.metric,
            "amount": event.amount,
            "idempotency_key": event.idempotency_key,
            "details": event.details,
            "now": now,
        },
    ).scalar_one()
    return stored == 1


def mark_told(
    session: Session, exceeded: Sequence[Span], *, now: dt.datetime
) -> list[tuple[int, int]]:
    """Note that subscribers are told of these windows; return those they were not told of before.

    Each as its place in `exceeded`, from 0, and the version of its counter. The pairs must be
    locked, and the counters there.
    """
    if not exceeded:
        return []
    rows = session.execute(MARK_TOLD, given(exceeded) | {"now": now})
    return sorted((row.place - 1, row.version) for row in rows)


# Nothing is recorded behind a horizon, and no key of a purged event is used again: see horizon.py.
USE = text(f"""
    WITH closed AS MATERIALIZED (
        SELECT closed_until FROM usage_horizons WHERE tenant_id = :tenant_id FOR KEY SHARE
    ),
    event AS (
        INSERT INTO usage_events
            (id, tenant_id, metric, idempotency_key, amount, at, received_at, metadata)
        SELECT id, :tenant_id, :metric, :idempotency_key, :amount, :now, :now, :details
        FROM (SELECT usage_event_id(:tenant_id, :metric, :idempotency_key) AS id) AS key
        WHERE NOT EXISTS (SELECT FROM closed WHERE closed_until > :now)
          AND NOT EXISTS (SELECT FROM usage_purged_keys AS kept WHERE kept.id = key.id)
        ON CONFLICT (id) DO NOTHING
        RETURNING tenant_id, metric, at, amount
    ),
    touched AS (
        {touched.append("SELECT tenant_id, metric, at AS first_at, at AS last_at FROM event")}
    ),
    raised AS (
        UPDATE quota_counters AS counter
        SET used = counter.used + event.amount, version = counter.version + 1, updated_at = :now
        FROM event
        WHERE counter.tenant_id = event.tenant_id AND counter.metric = event.metric
          AND counter.window_start <= event.at AND event.at < counter.window_end
    )
    SELECT count(*) FROM event
""").bindparams(bindparam("details", type_=JSONB))  # noqa: S608 (constants)

MARK_TOLD = text(f"""
    UPDATE quota_counters AS counter
    SET exceeded_at = :now, version = counter.version + 1, updated_at = :now
    FROM {SPANS}
    WHERE {COUNTS_SPAN} AND counter.exceeded_at IS NULL
    RETURNING span.place, counter.version
""")  # noqa: S608 (constants of this module)

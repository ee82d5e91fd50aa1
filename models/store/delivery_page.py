"""Deliveries looked up: a page of them, or one with its attempts and its event."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.states import DeliveryState
from models.store import delivery_lease
from models.store.delivery_lease import STATE
from models.store.skipping import UnknownDelivery

MOST_ATTEMPTS: Final = 200
"""Of one delivery, the newest: an ordered endpoint may stand still for one for months."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries are meant; None is any.

    Args:
        tenant_id: to this tenant's endpoints.
        type: of the event, exactly.
        since: events that happened then or later.
        until: events that happened before.
    """

    tenant_id: str | None = None
    endpoint_id: UUID | None = None
    state: DeliveryState | None = None
    type: str | None = None
    message_id: UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A delivery, with its event and how the last attempt at it ended.

    `waits_until` is when the endpoint of one that is pending was or is to be left alone until.
    """

    delivery_id: int
    endpoint_id: UUID
    message_id: UUID
    type: str
    tenant_id: str
    created_at: dt.datetime
    state: DeliveryState
    attempt_count: int
    due_at: dt.datetime
    completed_at: dt.datetime | None
    replayed_at: dt.datetime | None
    skip_reason: str | None
    correlation_id: str | None
    traceparent: str | None
    waits_until: dt.datetime | None
    last_outcome: str | None
    last_status: int | None


@dataclass(frozen=True, slots=True)
class Tried:
    """One HTTP try; `excerpt` is the beginning of what was answered."""

    attempted_at: dt.datetime
    attempt_number: int
    outcome: str
    status: int | None
    latency_ms: int
    error: str | None
    excerpt: str | None = field(repr=False)


# The newest of each endpoint by its index, and then the newest of these: no index of all deliveries
# by tenant is worth what it would cost every delivery. BETWEEN, and the order by endpoint: were it
# known that there is but one, PostgreSQL would go back through everybody's deliveries by their ids,
# which is endless for an endpoint that has few. Attempts of a few rows only, and of days since the
# event: other partitions are not looked into.
_PAGE = """
    SELECT page.*, last.outcome AS last_outcome, last.status AS last_status FROM (
        SELECT d.* FROM endpoints e CROSS JOIN LATERAL (
            SELECT {columns}
            FROM deliveries d JOIN outbox_messages m ON m.id = d.message_id
            WHERE d.endpoint_id BETWEEN e.id AND e.id {deliveries}
            ORDER BY d.endpoint_id DESC, d.id DESC LIMIT :most) AS d
        WHERE {endpoints}
        ORDER BY d.delivery_id DESC LIMIT :most) AS page
    LEFT JOIN LATERAL (
        SELECT outcome, status FROM delivery_attempts a
        WHERE a.delivery_id = page.delivery_id
          AND a.attempted_at >= page.created_at - interval '1 hour'
        ORDER BY a.attempted_at DESC LIMIT 1) AS last ON true
    ORDER BY page.delivery_id DESC
"""

_COLUMNS: Final = f"""
    d.id AS delivery_id, d.endpoint_id, d.message_id, m.type, m.tenant_id, m.created_at,
    {STATE} AS state, d.attempt_count, d.due_at, d.completed_at, d.replayed_at, d.skip_reason,
    m.correlation_id, m.traceparent, CASE WHEN d.state = 'pending' THEN (
        SELECT greatest(h.hold_until, h.probe_at) FROM endpoint_health h
        WHERE h.endpoint_id = d.endpoint_id) END AS waits_until
"""  # noqa: S608 (a constant)

_CONDITIONS: Final = {
    "type": "m.type = :type",
    "message_id": "d.message_id = :message_id",
    "since": "m.created_at >= :since",
    "until": "m.created_at < :until",
    "before": "d.id < :before",
}


def list_page(
    session: Session, wanted: Filter, *, before: int | None, most: int
) -> Sequence[Found]:
    """Return deliveries, the newest first, at most `most` of those made before the one `before`."""
    given = {name: getattr(wanted, name) for name in ("type", "message_id", "since", "until")}
    given = {name: value for name, value in {**given, "before": before}.items() if value}
    conditions = [_CONDITIONS[name] for name in given]
    if wanted.state is not None:
        conditions.append(delivery_lease.is_in(wanted.state))
    endpoints = {"e.tenant_id = :tenant": wanted.tenant_id, "e.id = :endpoint": wanted.endpoint_id}
    statement = _PAGE.format(
        columns=_COLUMNS,
        deliveries="".join(f" AND {condition}" for condition in conditions),
        endpoints=" AND ".join(one for one, value in endpoints.items() if value) or "true",
    )
    asked = {"tenant": wanted.tenant_id, "endpoint": wanted.endpoint_id, "most": most, **given}
    return [_found(row) for row in session.execute(text(statement), asked)]


_GET = text(f"""
    SELECT {_COLUMNS}, NULL AS last_outcome, NULL AS last_status, m.body
    FROM deliveries d JOIN outbox_messages m ON m.id = d.message_id
    JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = :delivery AND e.tenant_id IS NOT DISTINCT FROM
        coalesce(CAST(:tenant AS text), e.tenant_id)
""")  # noqa: S608 (a constant)

_ATTEMPTS = text("""
    SELECT attempted_at, attempt_number, outcome, status, latency_ms, error,
           convert_from(response_excerpt, 'UTF8') AS excerpt
    FROM delivery_attempts WHERE delivery_id = :delivery AND attempted_at >= :since
    ORDER BY attempted_at DESC LIMIT :most
""")


def get(session: Session, delivery_id: int, *, tenant_id: str | None) -> tuple[Found, bytes]:
    """Return a delivery and the bytes that are sent.

    Args:
        tenant_id: when given, only a delivery to this tenant's endpoints is found.

    Raises:
        UnknownDelivery: there is none by that id.
    """
    row = session.execute(_GET, {"delivery": delivery_id, "tenant": tenant_id}).one_or_none()
    if row is None:
        raise UnknownDelivery(
            f"delivery_id {delivery_id} is unknown"
            + (f" to tenant {tenant_id!r}" if tenant_id is not None else "")
            + "; billing.list_deliveries names those there are",
            field="delivery_id",
        )
    return _found(row), bytes(row.body)


def list_attempts(session: Session, found: Found) -> Sequence[Tried]:
    """Return the attempts at a delivery, the oldest first; of many the newest 200."""
    # An attempt never began before its event, but senders' clocks differ.
    since = found.created_at - dt.timedelta(hours=1)
    asked = {"delivery": found.delivery_id, "since": since, "most": MOST_ATTEMPTS}
    rows = session.execute(_ATTEMPTS, asked).all()
    return [Tried(*row) for row in reversed(rows)]


def _found(row: Any) -> Found:
    values = {name: getattr(row, name) for name in Found.__slots__}
    return Found(**{**values, "state": DeliveryState(row.state)})

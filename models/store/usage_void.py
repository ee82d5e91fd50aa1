"""Voids: events that were recorded and do not count. Both facts stay."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.store import alias, horizon, touched


class UnknownUsage(Refusal):
    """No usage event has this key."""

    code: ClassVar[str] = "usage.unknown"


@dataclass(frozen=True, slots=True)
class Voided:
    """An event that does not count, and why."""

    amount: Decimal
    at: dt.datetime
    reason: str
    actor: str | None
    voided_at: dt.datetime


def void(
    session: Session,
    *,
    tenant_id: str,
    metric: str,
    idempotency_key: str,
    reason: str,
    actor: str | None,
    now: dt.datetime,
) -> Voided:
    """Let an event count no more, in totals or quotas; what was said first stays.

    Raises:
        UnknownUsage: nothing was recorded under that key.
        UsageArchived: the event is of a time that is closed.
    """
    owner = _owner(session, tenant_id, metric, idempotency_key)
    key = {"tenant_id": owner, "metric": metric, "idempotency_key": idempotency_key}
    closed_until = horizon.hold(session, owner)
    said = {"reason": reason, "actor": actor, "now": now}
    while True:
        session.execute(VOID, {**key, **said, "closed_until": closed_until})
        # A later statement: whoever voided it a moment before us has committed, and is seen.
        row = session.execute(READ, key).first()
        if row is None:
            raise UnknownUsage(
                f"idempotency_key {idempotency_key!r} of metric {metric!r} is unknown for tenant "
                f"{tenant_id!r}; give the three as they were recorded",
                field="idempotency_key",
            )
        if row.voided_at is not None:
            return Voided(row.amount, row.at, row.reason, row.actor, row.voided_at)
        if closed_until is not None and row.at < closed_until:
            raise horizon.UsageArchived(
                f"the event of {row.at.isoformat()} can not be voided: what the tenant used before "
                f"{closed_until.isoformat()} is invoiced for good and archived; correct the "
                "invoice",
                field="idempotency_key",
            )
        # It was recorded between the two statements; the first one sees it now.


def _owner(session: Session, tenant_id: str, metric: str, idempotency_key: str) -> str:
    """The tenant, or the one that became part of it under whose id the event was billed."""
    family = alias.family(session, tenant_id)
    if len(family) == 1:
        return tenant_id
    key = {"metric": metric, "idempotency_key": idempotency_key}
    for one in family:
        if session.execute(READ, {**key, "tenant_id": one}).first() is not None:
            return one
    return tenant_id


VOID = text(f"""
    WITH voided AS (
        INSERT INTO usage_voids (event_id, tenant_id, metric, at, reason, actor, voided_at)
        SELECT id, tenant_id, metric, at, :reason, :actor, :now FROM usage_events
        WHERE id = usage_event_id(:tenant_id, :metric, :idempotency_key)
          AND (CAST(:closed_until AS timestamptz) IS NULL OR at >= :closed_until)
        ON CONFLICT (event_id) DO NOTHING
        RETURNING event_id, tenant_id, metric, at
    ),
    left_quota AS (
        INSERT INTO quota_arrivals (tenant_id, metric, at, amount)
        SELECT event.tenant_id, event.metric,
               date_bin('15 minutes', event.at, timestamptz 'epoch'), -event.amount
        FROM voided JOIN usage_events AS event ON event.id = voided.event_id
        JOIN quota_metrics AS counted ON counted.metric = event.metric
    )
    {touched.append("SELECT tenant_id, metric, at AS first_at, at AS last_at FROM voided")}
""")  # noqa: S608 (constants)

# Of an event that was purged, its key tells what it was, for as long as that is remembered.
READ = text("""
    SELECT event.amount, event.at, voided.reason, voided.actor, voided.voided_at
    FROM (
        SELECT id, amount, at FROM usage_events
        WHERE id = usage_event_id(:tenant_id, :metric, :idempotency_key)
        UNION ALL
        SELECT id, amount, at FROM usage_purged_keys
        WHERE id = usage_event_id(:tenant_id, :metric, :idempotency_key)
        LIMIT 1
    ) AS event
    LEFT JOIN usage_voids AS voided ON voided.event_id = event.id
""")

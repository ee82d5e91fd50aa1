"""Voids: events that were recorded and do not count. Both facts stay."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.store import touched


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
    """
    key = {"tenant_id": tenant_id, "metric": metric, "idempotency_key": idempotency_key}
    session.execute(VOID, {**key, "reason": reason, "actor": actor, "now": now})
    # A later statement: whoever voided it a moment before us has committed, and is seen.
    row = session.execute(READ, key).first()
    if row is None:
        raise UnknownUsage(
            f"idempotency_key {idempotency_key!r} of metric {metric!r} is unknown for tenant "
            f"{tenant_id!r}; give the three as they were recorded",
            field="idempotency_key",
        )
    return Voided(row.amount, row.at, row.reason, row.actor, row.voided_at)


VOID = text(f"""
    WITH voided AS (
        INSERT INTO usage_voids (event_id, tenant_id, metric, at, reason, actor, voided_at)
        SELECT id, tenant_id, metric, at, :reason, :actor, :now FROM usage_events
        WHERE id = usage_event_id(:tenant_id, :metric, :idempotency_key)
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

READ = text("""
    SELECT event.amount, event.at, voided.reason, voided.actor, voided.voided_at
    FROM usage_voids AS voided JOIN usage_events AS event ON event.id = voided.event_id
    WHERE voided.event_id = usage_event_id(:tenant_id, :metric, :idempotency_key)
""")

"""How far a tenant's usage is settled, and what holds back the rest."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from models.rules import period, retention
from models.rules.retention import Settled, Standing
from models.rules.states import FINAL_INVOICE_STATES
from models.store import counting, touched
from models.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Rule:
    """Which usage may be closed.

    Args:
        age: how long ago a month must have ended.
        even_uninvoiced: also months that no final invoice charged for.
    """

    age: dt.timedelta
    even_uninvoiced: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tenant with open usage that is old enough, and how far it is settled.

    Args:
        closed_until: where its horizon is; None if nothing was ever closed.
        first_at: the oldest event that is open.
        closes_at: the end of the last month that is settled; before `first_at` if none is.
        is_behind: some of it waits for a roll-up, or for a meter that has changed.
    """

    tenant_id: str
    timezone: str
    metrics: Sequence[str]
    closed_until: dt.datetime | None
    first_at: dt.datetime
    closes_at: dt.datetime
    settled: Settled
    is_behind: bool

    @property
    def is_settled(self) -> bool:
        """Whether some of it may be closed."""
        return self.first_at < self.closes_at

    @property
    def zone(self) -> ZoneInfo:
        """The tenant's time zone."""
        return period.zone(self.timezone)


@dataclass(frozen=True, slots=True)
class Page:
    """Candidates among some tenants, and the last of these; None when there were none."""

    candidates: Sequence[Candidate]
    last_tenant_id: str | None


def find(session: Session, rule: Rule, *, after: str, limit: int, now: dt.datetime) -> Page:
    """Return the candidates among the next tenants, also those that can not be closed yet.

    Args:
        after: the tenant after whom to begin.
        limit: how many tenants to look at.
    """
    following = select(Tenant.tenant_id).where(Tenant.tenant_id > after)
    ids = session.scalars(following.order_by(Tenant.tenant_id).limit(limit)).all()
    if not ids:
        return Page((), None)
    return Page(of_tenants(session, rule, ids, now=now), ids[-1])


def of_tenants(
    session: Session, rule: Rule, tenant_ids: Sequence[str], *, now: dt.datetime
) -> list[Candidate]:
    """Return the candidates among these tenants."""
    rows = session.execute(
        STANDINGS,
        {
            "tenant_ids": list(tenant_ids),
            "old_until": now - rule.age,
            "final": sorted(FINAL_INVOICE_STATES),
        },
    )
    return [_candidate(row, rule, now) for row in rows]


def _candidate(row: Row[Any], rule: Rule, now: dt.datetime) -> Candidate:
    zone = period.zone(row.timezone)
    standing = Standing(
        old_until=period.local_day(now - rule.age, zone),
        unbilled_from=row.unbilled_from,
        drafted_from=_day(row.drafted_from, zone),
        late_from=_day(row.late_from, zone),
        voided_from=_day(row.voided_from, zone),
        invoiced_until=_day(row.invoiced_until, zone),
    )
    settled = retention.settled(standing, even_uninvoiced=rule.even_uninvoiced)
    return Candidate(
        tenant_id=row.tenant_id,
        timezone=row.timezone,
        metrics=row.metrics,
        closed_until=row.closed_until,
        first_at=row.first_at,
        closes_at=_midnight(settled.until, zone),
        settled=settled,
        is_behind=row.is_behind,
    )


def _day(at: dt.datetime | None, zone: ZoneInfo) -> date | None:
    return None if at is None else period.local_day(at, zone)


def _midnight(day: date, zone: ZoneInfo) -> dt.datetime:
    if day == date.min:
        return dt.datetime.min.replace(tzinfo=dt.UTC)
    return period.local_midnight(day, zone)


# Of each of a tenant's metrics the oldest open event is found. What that says is open and old
# enough, nearly always of nobody, is looked at closely.
# A voided invoice is made up for by a final one over the same days; one that came to nothing as a
# draft needs none.
STANDINGS = text(f"""
    WITH RECURSIVE tenant AS MATERIALIZED (
        SELECT tenant_id, timezone, coalesce(closed_until, '-infinity') AS closed_until
        FROM tenants LEFT JOIN usage_horizons USING (tenant_id)
        WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
    ),
    {counting.METRICS_OF_TENANTS},
    used AS MATERIALIZED (
        SELECT tenant_id, min(oldest.at) AS first_at,
               array_agg(pair.metric ORDER BY pair.metric) AS metrics
        FROM tenant
        JOIN pair USING (tenant_id)
        CROSS JOIN LATERAL (
            SELECT at FROM usage_events AS event
            WHERE event.tenant_id = tenant.tenant_id AND event.metric = pair.metric
              AND event.at >= tenant.closed_until AND event.at < :old_until
            ORDER BY at LIMIT 1
        ) AS oldest
        GROUP BY tenant_id
    )
    SELECT tenant_id, timezone, first_at, metrics,
           nullif(closed_until, '-infinity') AS closed_until,
           (
               SELECT min(first_day) FROM (
                   SELECT greatest(billed_until, (effective_at AT TIME ZONE timezone)::date)
                          AS first_day,
                          (ended_at AT TIME ZONE timezone)::date AS day_after
                   FROM subscriptions WHERE subscriptions.tenant_id = tenant.tenant_id
               ) AS subscription
               WHERE day_after IS NULL OR first_day < day_after
           ) AS unbilled_from,
           (
               SELECT min(period_start) FROM invoices
               WHERE invoices.tenant_id = tenant.tenant_id AND state = 'draft'
           ) AS drafted_from,
           (
               SELECT min(period_start)
               FROM late_usage AS late JOIN invoices ON invoices.id = late.invoice_id
               WHERE late.tenant_id = tenant.tenant_id AND state = ANY(CAST(:final AS text[]))
           ) AS late_from,
           (
               SELECT min(period_start) FROM invoices AS voided
               WHERE voided.tenant_id = tenant.tenant_id AND voided.state = 'void'
                 AND voided.number IS NOT NULL
                 AND NOT EXISTS (
                     SELECT FROM invoices AS other
                     WHERE other.tenant_id = voided.tenant_id
                       AND other.currency = voided.currency
                       AND other.state = ANY(CAST(:final AS text[]))
                       AND other.period_start <= voided.period_start
                       AND other.period_end >= voided.period_end
                 )
           ) AS voided_from,
           (
               SELECT max(period_end) FROM invoices
               WHERE invoices.tenant_id = tenant.tenant_id AND kind = 'subscription'
                 AND state = ANY(CAST(:final AS text[]))
           ) AS invoiced_until,
           EXISTS (SELECT FROM meters WHERE recount_after IS NOT NULL) OR EXISTS (
               SELECT FROM usage_touched_days AS logged CROSS JOIN LATERAL {touched.SPANS}
               WHERE logged.tenant_ids @> ARRAY[tenant.tenant_id]
                 AND touched.tenant_id = tenant.tenant_id AND touched.first_at < :old_until
           ) AS is_behind
    FROM used JOIN tenant USING (tenant_id)
    ORDER BY tenant_id
""")  # noqa: S608 (a constant)

"""What was used over a stretch of time that begins behind a tenant's horizon.

What is closed is told by its totals, which stay; its events may be gone. So the quantity is put
together from the totals of closed days and from the events of what is still open.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.rules import meter as rules
from models.rules.meter import UNMETERED, Aggregation, Terms
from models.rules.period import Period
from models.store import counting
from models.store.horizon import UsageArchived

Asked = tuple[str, str, Period]
"""A tenant, a metric of it, and a stretch of time."""


def totals(
    session: Session,
    asked: Sequence[Asked],
    terms: Mapping[str, Terms],
    *,
    closed: Mapping[str, dt.datetime],
) -> list[Decimal]:
    """Return what each stretch comes to, in order; each begins before its tenant's horizon.

    A stretch that begins within a closed day, as after a change of the tenant's zone, is counted
    from the end of that day: it was charged for with it.

    Raises:
        UsageArchived: the totals that are kept do not tell it.
    """
    exact: dict[int, Decimal] = {}
    for aggregation in Aggregation:
        chosen = {
            place: one
            for place, one in enumerate(asked)
            if terms.get(one[1], UNMETERED).definition.aggregation is aggregation
        }
        if chosen:
            rows = session.execute(SPLIT[aggregation], {"windows": _json(chosen, closed)})
            exact |= {row.place: _total(aggregation, row, chosen[row.place]) for row in rows}
    return [exact[place] for place in range(len(asked))]


def opens_at(
    session: Session, asked: Sequence[Asked], *, closed: Mapping[str, dt.datetime]
) -> list[dt.datetime]:
    """Return from when on events tell of each stretch all that they ever told, in order.

    That is its beginning; or, where it begins within a closed day, as after a change of the
    tenant's zone, the horizon: that day was charged for.

    Raises:
        UsageArchived: some of what was used in a stretch is archived.
    """
    found: list[dt.datetime] = []
    for tenant_id, metric, stretch in asked:
        until = closed.get(tenant_id, stretch.start)
        if stretch.start < until:
            given = {"tenant_id": tenant_id, "metric": metric, "until": min(until, stretch.end)}
            if session.scalar(IS_USED, {**given, "begins_at": stretch.start}):
                raise _untold((tenant_id, metric, stretch), until)
        found.append(max(stretch.start, until))
    return found


def _total(aggregation: Aggregation, row: Row[Any], asked: Asked) -> Decimal:
    if row.whole is not None:
        return Decimal(row.whole)
    cuts_closed_day = row.ends_at is not None and row.ends_at > asked[2].end
    counts_differently = aggregation is Aggregation.unique_count and row.closed_count
    if cuts_closed_day or counts_differently:
        raise _untold(asked, row.closed_until)
    closed = rules.Part(Decimal(row.closed_total), row.closed_count)
    return rules.put_together(aggregation, closed, rules.Part(row.open_total, row.open_count))


def _untold(asked: Asked, closed_until: dt.datetime) -> UsageArchived:
    tenant_id, metric, stretch = asked
    return UsageArchived(
        f"metric {metric!r} of tenant {tenant_id!r} can not be counted from "
        f"{stretch.start.isoformat()} to {stretch.end.isoformat()}: its events before "
        f"{closed_until.isoformat()} are archived, and the totals of days do not tell it; choose "
        "whole days, or for different values a whole month",
        field="metric",
    )


def _json(asked: Mapping[int, Asked], closed: Mapping[str, dt.datetime]) -> str:
    return orjson.dumps(
        [
            {
                "place": place,
                "tenant_id": tenant_id,
                "metric": metric,
                "begins_at": stretch.start,
                "ends_at": stretch.end,
                "closed_until": closed[tenant_id],
                "opens_at": max(stretch.start, closed[tenant_id]),
            }
            for place, (tenant_id, metric, stretch) in asked.items()
        ]
    ).decode()


def _split(aggregation: Aggregation) -> str:
    """The closed days that begin in a stretch, what is open of it, and the total that is just it.

    Of different values no totals add up: of them it is only told that there were some.
    """
    of_days = counting.DAY_TOTALS.get(aggregation, "0::numeric")
    return f"""
        SELECT span.place, span.closed_until, closed.total AS closed_total,
               closed.event_count AS closed_count, closed.ends_at,
               sums.total AS open_total, sums.event_count AS open_count, whole.total AS whole
        FROM (
            SELECT place, tenant_id, metric, begins_at, ends_at, closed_until,
                   opens_at AS starts_at
            FROM jsonb_to_recordset(CAST(:windows AS jsonb)) AS asked(
                place integer, tenant_id text, metric text, begins_at timestamptz,
                ends_at timestamptz, closed_until timestamptz, opens_at timestamptz)
        ) AS span
        LEFT JOIN meters AS meter ON meter.metric = span.metric
        CROSS JOIN LATERAL (
            SELECT {of_days} AS total, coalesce(sum(day.event_count), 0) AS event_count,
                   max(day.period_end) AS ends_at
            FROM usage_aggregates AS day
            WHERE day.tenant_id = span.tenant_id AND day.metric = span.metric
              AND day.granularity = 'day' AND day.period_start < span.closed_until
              AND day.period_start >= span.begins_at AND day.period_start < span.ends_at
        ) AS closed
        LEFT JOIN LATERAL (
            SELECT total FROM usage_aggregates AS held
            WHERE held.tenant_id = span.tenant_id AND held.metric = span.metric
              AND held.period_start = span.begins_at AND held.period_end = span.ends_at
              AND span.ends_at <= span.closed_until
            ORDER BY granularity LIMIT 1
        ) AS whole ON true
        {counting.sums(aggregation)}
    """  # noqa: S608 (constants)


SPLIT = {aggregation: text(_split(aggregation)) for aggregation in Aggregation}

IS_USED = text("""
    SELECT EXISTS (
        SELECT FROM usage_aggregates
        WHERE tenant_id = :tenant_id AND metric = :metric AND granularity = 'day'
          AND period_start >= :begins_at AND period_start < :until AND event_count > 0
    )
""")

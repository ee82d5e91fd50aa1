"""The check of the totals: the events counted again, and compared, without writing anything."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.rules.meter import Aggregation
from models.store import counting, touched


@dataclass(frozen=True, slots=True)
class Drift:
    """A day whose total is not what its events come to; `stored` is None where there is none."""

    tenant_id: str
    metric: str
    day_start: dt.datetime
    day_end: dt.datetime
    stored: Decimal | None
    counted: Decimal


@dataclass(frozen=True, slots=True)
class Checked:
    """One chunk: the last tenant that was looked at (None: there was none), days, and drifts."""

    last_tenant_id: str | None
    days: int
    drifts: tuple[Drift, ...]


def check(session: Session, *, after: str, limit: int, days: int, now: dt.datetime) -> Checked:
    """Count the last `days` whole local days of the next tenants from their events.

    Left out is what is known to be behind: days that were touched and not yet rolled up, and days
    that another definition of their meter counted; and days that are closed, whose events may be
    gone. All is read as of one instant, so ingest and roll-ups may go on.

    Args:
        after: the tenant after whom to begin.
        limit: how many tenants.
        days: how many local days, the last of them yesterday.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    chosen = {"after": after, "limit": limit, "days": days, "now": now}
    found = session.execute(DAYS, chosen).one()
    if found.last_tenant_id is None:
        return Checked(None, 0, ())
    given = found._asdict()
    drifts = [_drift(row) for row in session.execute(COMPARE_PLAIN, given)]
    for aggregation in session.scalars(METERED, given).all():
        drifts += [_drift(row) for row in session.execute(COMPARE[Aggregation(aggregation)], given)]
    return Checked(found.last_tenant_id, found.days, tuple(drifts))


def touch(session: Session, drifts: Sequence[Drift]) -> list[Drift]:
    """Log the days as touched, so that the roll-up counts them anew; return those that were news.

    Of several who found the same drift at once, it is news to one: the others see that its day
    waits already, or was counted since.
    """
    session.execute(ONE_AT_A_TIME)
    fresh = set(session.scalars(FRESH, _columns(drifts)))
    news = [drift for number, drift in enumerate(drifts, start=1) if number in fresh]
    session.execute(TOUCH, _columns(news))
    return news


def _columns(drifts: Sequence[Drift]) -> dict[str, Any]:
    return {
        "tenant_ids": [drift.tenant_id for drift in drifts],
        "metrics": [drift.metric for drift in drifts],
        "starts": [drift.day_start for drift in drifts],
        "ends": [drift.day_end for drift in drifts],
        "stored": [drift.stored for drift in drifts],
    }


def _drift(row: Row[Any]) -> Drift:
    return Drift(row.tenant_id, row.metric, row.starts_at, row.ends_at, row.stored, row.counted)


# A tenant's metrics are found among its events, and not in the totals that are to be checked.
DAYS = text(f"""
    WITH RECURSIVE tenant AS MATERIALIZED (
        SELECT tenant_id, timezone FROM tenants WHERE tenant_id > :after
        ORDER BY tenant_id LIMIT :limit
    ),
    {counting.METRICS_OF_TENANTS},
    day AS (
        SELECT tenant_id, local_midnight(date, timezone) AS starts_at,
               local_midnight(date + 1, timezone) AS ends_at
        FROM (
            SELECT tenant.*, (CAST(:now AS timestamptz) AT TIME ZONE timezone)::date - ago AS date
            FROM tenant, generate_series(1, :days) AS ago
        ) AS dates
    ),
    touched AS MATERIALIZED (
        SELECT touched.* FROM usage_touched_days AS logged CROSS JOIN LATERAL {touched.SPANS}
    ),
    checked AS (
        SELECT pair.tenant_id, pair.metric, day.starts_at, day.ends_at
        FROM pair JOIN day USING (tenant_id) LEFT JOIN usage_horizons USING (tenant_id)
        WHERE day.starts_at < day.ends_at AND (closed_until > day.starts_at) IS NOT TRUE
          AND NOT EXISTS (
            SELECT FROM touched
            WHERE touched.tenant_id = pair.tenant_id AND touched.metric = pair.metric
              AND touched.first_at < day.ends_at AND touched.last_at >= day.starts_at
        )
    )
    SELECT (SELECT max(tenant_id) FROM tenant) AS last_tenant_id, count(*) AS days,
           array_agg(tenant_id)::text AS tenant_ids, array_agg(metric)::text AS metrics,
           array_agg(starts_at)::text AS starts, array_agg(ends_at)::text AS ends
    FROM checked
""")  # noqa: S608 (a constant)

GIVEN = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
        AS span(tenant_id, metric, starts_at, ends_at)
"""

METERED = text(f"""
    SELECT DISTINCT meter.aggregation
    FROM meters AS meter
    WHERE meter.metric = ANY(CAST(:metrics AS text[])) AND NOT {counting.IS_PLAIN}
""")  # noqa: S608 (a constant of this module)


def _compare(condition: str, sums: str) -> str:
    return f"""
        SELECT span.tenant_id, span.metric, span.starts_at, span.ends_at,
               held.total AS stored, sums.total AS counted
        FROM {GIVEN}
        LEFT JOIN meters AS meter ON meter.metric = span.metric
        LEFT JOIN usage_aggregates AS held
          ON held.tenant_id = span.tenant_id AND held.metric = span.metric
         AND held.granularity = 'day' AND held.period_start = span.starts_at
        {sums}
        WHERE {condition}
          AND coalesce(held.meter_definition, meter.definition, 0) = coalesce(meter.definition, 0)
          AND (coalesce(held.total, 0), coalesce(held.event_count, 0))
              <> (sums.total, sums.event_count)
        ORDER BY span.tenant_id, span.metric, span.starts_at
    """  # noqa: S608 (constants of this module)


COMPARE_PLAIN = text(_compare(counting.IS_PLAIN, counting.PLAIN_SUMS))

COMPARE = {
    aggregation: text(
        _compare(
            f"meter.aggregation = '{aggregation}' AND NOT {counting.IS_PLAIN}",
            counting.sums(aggregation),
        )
    )
    for aggregation in Aggregation
}

ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('usage recount'))")

WHOLE_DAY = "drifted.starts_at AS first_at, drifted.ends_at - interval '1 microsecond' AS last_at"
"""The span that touches all of a day, whoever logs it."""

DRIFTED = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]),
           CAST(:stored AS numeric[]))
        WITH ORDINALITY AS drifted(tenant_id, metric, starts_at, ends_at, stored, number)
"""

FRESH = text(f"""
    WITH waiting AS MATERIALIZED (
        SELECT touched.* FROM usage_touched_days AS logged CROSS JOIN LATERAL {touched.SPANS}
    )
    SELECT drifted.number
    FROM {DRIFTED}
    CROSS JOIN LATERAL (SELECT {WHOLE_DAY}) AS day
    LEFT JOIN usage_aggregates AS held
      ON held.tenant_id = drifted.tenant_id AND held.metric = drifted.metric
     AND held.granularity = 'day' AND held.period_start = drifted.starts_at
    WHERE held.total IS NOT DISTINCT FROM drifted.stored
      AND NOT EXISTS (
        SELECT FROM waiting
        WHERE waiting.tenant_id = drifted.tenant_id AND waiting.metric = drifted.metric
          AND waiting.first_at = day.first_at AND waiting.last_at = day.last_at
    )
""")  # noqa: S608 (constants of this module)

TOUCH = text(touched.append(f"SELECT tenant_id, metric, {WHOLE_DAY} FROM {DRIFTED}"))  # noqa: S608

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
from models.store.turns import AT_ONCE, Turns

FIRST = 16
"""Days that the first statement compares: nobody knows yet of how many events one is."""


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
    """One chunk: the last tenant that was looked at (None: there was none), days, and drifts.

    `left_out` are days of that tenant, the oldest, who has more events than there was time for.
    """

    last_tenant_id: str | None
    days: int
    drifts: tuple[Drift, ...]
    left_out: int = 0


def check(
    session: Session,
    *,
    after: str,
    limit: int,
    days: int,
    now: dt.datetime,
    turns: Turns = AT_ONCE,
) -> Checked:
    """Count the last `days` whole local days of the next tenants from their events.

    Left out is what is known to be behind: days that were touched and not yet rolled up, and days
    that another definition of their meter counted; and days that are closed, whose events may be
    gone. All is read as of one instant, so ingest and roll-ups may go on.

    Args:
        after: the tenant after whom to begin.
        limit: how many tenants.
        days: how many local days, the last of them yesterday.
        turns: tenants whose turn has not come are left to the next chunk.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    chosen = {"after": after, "limit": limit, "days": days, "now": now}
    found = session.execute(DAYS, chosen).one()
    if found.last_tenant_id is None:
        return Checked(None, 0, ())
    given = found._asdict()
    metered = [Aggregation(one) for one in session.scalars(METERED, given)]
    statements = [COMPARE_PLAIN, *(COMPARE[aggregation] for aggregation in metered)]
    drifts = list[Drift]()

    def compare(done: int, upto: int) -> None:
        for statement in statements:
            rows = session.execute(statement, {**given, "done": done, "upto": upto})
            drifts.extend(_drift(row) for row in rows)

    done = turns.take(found.days, compare, first=FIRST)
    if done == found.days:
        return Checked(found.last_tenant_id, done, tuple(drifts))
    ended = session.execute(ENDED, {**given, "done": done}).one()
    if ended.whole is None:
        return Checked(ended.cut, done, tuple(drifts), left_out=ended.left_out)
    whole = tuple(drift for drift in drifts if drift.tenant_id != ended.cut)
    return Checked(ended.whole, ended.days, whole)


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
    FROM (SELECT * FROM checked ORDER BY tenant_id, starts_at DESC, metric) AS ordered
""")  # noqa: S608 (a constant)

GIVEN = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
        WITH ORDINALITY AS span(tenant_id, metric, starts_at, ends_at, number)
"""

# Where time ended: the tenant whose days are not all compared, and the last one before.
ENDED = text(f"""
    WITH cut AS (SELECT tenant_id FROM {GIVEN} WHERE number = :done + 1)
    SELECT (SELECT tenant_id FROM cut) AS cut,
           max(tenant_id) FILTER (WHERE tenant_id < (SELECT tenant_id FROM cut)) AS whole,
           count(*) FILTER (WHERE tenant_id < (SELECT tenant_id FROM cut)) AS days,
           count(*) FILTER (WHERE tenant_id = (SELECT tenant_id FROM cut) AND number > :done)
               AS left_out
    FROM {GIVEN}
""")  # noqa: S608 (a constant of this module)

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
        WHERE span.number > :done AND span.number <= :upto AND {condition}
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

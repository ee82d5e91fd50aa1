"""The statements that write totals: of days from events or quarter hours, of months from days.

Each writes the locked totals whose numbers are above `done` and up to `upto`.
"""

from sqlalchemy import text

from models.rules.meter import Aggregation
from models.store import counting
from models.store.locked_days import LOCKED


def _store(condition: str, sums: str, *, until: str = "NULL::timestamptz") -> str:
    """Write the totals that differ. News are a first total and another total of a day.

    `until` is up to when the quarter hours of a day are counted; of others there are none.
    """
    return f"""
        WITH summed AS MATERIALIZED (
            SELECT span.place, span.before, span.is_fresh, sums.*, {until} AS until,
                   coalesce(meter.definition, 0) AS definition,
                   (span.before, span.count_before) IS DISTINCT FROM (sums.total, sums.event_count)
                   AS differs
            FROM {LOCKED}
            LEFT JOIN meters AS meter ON meter.metric = span.metric
            {sums}
            WHERE span.number > :done AND span.number <= :upto AND {condition}
        )
        UPDATE usage_aggregates AS held
        SET total = summed.total, event_count = summed.event_count, updated_at = :now,
            meter_definition = summed.definition,
            version = held.version + CASE WHEN summed.differs THEN 1 ELSE 0 END,
            quarter_hours_until = summed.until,
            quarter_hours_version = CASE WHEN summed.until IS NOT NULL
                THEN held.version + CASE WHEN summed.differs THEN 1 ELSE 0 END END
        FROM summed
        WHERE held.ctid = summed.place
          AND (summed.differs OR held.meter_definition <> summed.definition
               OR held.quarter_hours_until IS DISTINCT FROM summed.until
               OR summed.until IS NOT NULL AND held.quarter_hours_version <> held.version)
        RETURNING held.tenant_id, held.metric, held.period_start, held.total, held.version,
                  held.granularity = 'day' AND (
                      held.total <> summed.before OR (summed.is_fresh AND summed.differs)
                  ) AS is_news
    """  # noqa: S608 (constants of this module)


def _from_parts(total: str, parts: str) -> str:
    return f"""
        CROSS JOIN LATERAL (
            SELECT {total} AS total, coalesce(sum(day.event_count), 0) AS event_count
            FROM {parts}
        ) AS sums
    """  # noqa: S608 (constants of this module)


COUNT_PLAIN = text(
    _store(
        f"span.granularity = 'day' AND NOT span.is_full AND {counting.IS_PLAIN}",
        counting.PLAIN_SUMS,
    )
)

# A month of different values can not be told from its days.
COUNT = {
    aggregation: text(
        _store(
            f"meter.aggregation = '{aggregation}' AND NOT {counting.IS_PLAIN}"
            + (
                " AND span.granularity = 'day' AND NOT span.is_full"
                if aggregation in counting.DAY_TOTALS
                else ""
            ),
            counting.sums(aggregation),
        )
    )
    for aggregation in Aggregation
}

FULL = {
    aggregation: text(
        _store(
            f"""
                span.is_full AND span.number <> ALL(CAST(:unfinished AS integer[]))
                AND coalesce(meter.aggregation, 'sum') = '{aggregation}'
            """,
            _from_parts(
                total,
                """
                    (SELECT total, event_count, starts_at AS period_start
                     FROM usage_quarter_hours AS quarter
                     WHERE quarter.tenant_id = span.tenant_id AND quarter.metric = span.metric
                       AND quarter.starts_at >= span.starts_at AND quarter.starts_at < span.ends_at
                    ) AS day
                """,
            ),
            until="span.ends_at",
        )
    )
    for aggregation, total in counting.DAY_TOTALS.items()
}

MONTHS = {
    aggregation: text(
        _store(
            f"span.granularity = 'month' AND coalesce(meter.aggregation, 'sum') = '{aggregation}'",
            _from_parts(
                total,
                """
                    usage_aggregates AS day
                    WHERE day.tenant_id = span.tenant_id AND day.metric = span.metric
                      AND day.granularity = 'day'
                      AND day.period_start >= span.starts_at AND day.period_start < span.ends_at
                """,
            ),
        )
    )
    for aggregation, total in counting.DAY_TOTALS.items()
}

"""Days so full that they are counted by quarter hours: only those that were touched.

A day of few events is counted from them each time, which needs no memory of what was counted. Every
ten seconds, of a day of millions, that would take longer than ten seconds. So the quarter hours of
such a day are kept, and the day is their sum. They are as exact as a count of the day: what touched
a quarter hour and is in it, or waits in the log.

A day becomes full once, and then all of its quarter hours are counted, from its beginning on. If
there is no time for all, it keeps the total it has; the next roll-up goes on where this one ended,
since what is left is in the log again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.meter import Aggregation
from models.store import counting, touched
from models.store.locked_days import LOCKED
from models.store.turns import Turns

FIRST = 16
"""Stretches that the first statement counts: an hour at most each, of no matter how many events."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Days that are counted alike: by which aggregation, and whether amounts are all they need."""

    aggregation: Aggregation
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What there was no time for.

    Args:
        unfinished: days, by their number among the locked ones, that can not be summed up yet.
        left: whether anything is left at all.
    """

    unfinished: list[int]
    left: bool


def count(
    session: Session,
    kinds: Sequence[Kind],
    spans: dict[str, Any],
    periods: dict[str, Any],
    *,
    turns: Turns,
) -> Work:
    """Count the quarter hours of full days that spans touched, and those never counted before.

    Args:
        kinds: of the days that are full.
        spans: what was touched, as in `counted.count`.
        periods: the totals that are locked, as `LOCKED` reads them.
        turns: what they leave goes into the log of touched days.
    """
    named = {f"touched_{name}": spans[name] for name in ("tenant_ids", "metrics", "quarters")}
    ends = {name: spans[name] for name in ("firsts", "lasts")}
    found = session.execute(STRETCHES, {**periods, **named, **ends}).one()
    stretches = found._asdict()

    def count_stretches(done: int, upto: int) -> None:
        for kind in kinds:
            statement = COUNT_PLAIN if kind.is_plain else COUNT[kind.aggregation]
            session.execute(statement, {**stretches, "done": done, "upto": upto})

    done = turns.take(found.stretches, count_stretches, first=FIRST)
    if done == found.stretches:
        return Work([], left=False)
    left = {**stretches, "done": done}
    session.execute(TOUCH_AGAIN, left)
    return Work(list(session.scalars(REMEMBER, {**periods, **left})), left=True)


# Touched quarter hours that follow one another are a stretch, within an hour; of a day that is not
# known to its end, the rest is new, an hour a stretch. What is new comes last and in order, so that
# wherever time ends each day is known from its beginning up to some hour. A span tells which
# quarters of a UTC day were touched, and may reach beyond it; then all that is there of it was.
# What is left of a day of which nothing is known goes first.
STRETCHES = text(f"""
    WITH day AS MATERIALIZED (
        SELECT number, tenant_id, metric, starts_at, ends_at,
               coalesce(known_until, starts_at) AS known_until, known_until IS NULL AS is_unknown
        FROM {LOCKED}
        WHERE is_full
    ),
    stale AS (
        DELETE FROM usage_quarter_hours AS held USING day
        WHERE day.is_unknown AND held.tenant_id = day.tenant_id AND held.metric = day.metric
          AND held.starts_at >= day.starts_at AND held.starts_at < day.ends_at
    ),
    touched AS MATERIALIZED (
        SELECT day.*, quarters, last_at, date_trunc('day', first_at, 'UTC') AS begins_at
        FROM day
        JOIN unnest(CAST(:touched_tenant_ids AS text[]), CAST(:touched_metrics AS text[]),
                    CAST(:firsts AS timestamptz[]), CAST(:lasts AS timestamptz[]),
                    CAST(:touched_quarters AS bit varying[]))
             AS span(tenant_id, metric, first_at, last_at, quarters) USING (tenant_id, metric)
        WHERE first_at < day.known_until AND last_at >= day.starts_at
    ),
    quarter AS (
        SELECT touched.*, begins_at + nth * interval '15 minutes' AS quarter
        FROM touched CROSS JOIN generate_series(0, 95) AS nth
        WHERE get_bit(quarters, nth) = 1
        UNION ALL
        SELECT touched.*, quarter
        FROM touched CROSS JOIN LATERAL generate_series(
            begins_at + interval '24 hours', last_at, interval '15 minutes'
        ) AS quarter
    ),
    known AS (
        SELECT DISTINCT number, tenant_id, metric, starts_at, ends_at, quarter
        FROM quarter
        WHERE quarter < known_until AND quarter + interval '15 minutes' > starts_at
    ),
    neighbours AS (
        SELECT known.*, quarter - interval '15 minutes' * row_number() OVER (
                   PARTITION BY number ORDER BY quarter) AS run
        FROM known
    ),
    stretch AS (
        SELECT number, tenant_id, metric, false AS is_new,
               greatest(min(quarter), starts_at) AS starts_at,
               least(max(quarter) + interval '15 minutes', ends_at) AS ends_at
        FROM neighbours
        GROUP BY number, tenant_id, metric, starts_at, ends_at, run,
                 date_bin('1 hour', quarter, timestamptz 'epoch')
        UNION ALL
        SELECT number, tenant_id, metric, true, greatest(hour, known_until),
               least(hour + interval '1 hour', ends_at)
        FROM day CROSS JOIN LATERAL generate_series(
            date_bin('1 hour', known_until, timestamptz 'epoch'),
            ends_at - interval '1 microsecond', interval '1 hour'
        ) AS hour
        WHERE known_until < ends_at
    )
    SELECT count(*) AS stretches, array_agg(number)::text AS days,
           array_agg(is_new)::text AS new_ones,
           array_agg(tenant_id)::text AS stretch_tenant_ids,
           array_agg(metric)::text AS stretch_metrics,
           array_agg(starts_at)::text AS stretch_starts, array_agg(ends_at)::text AS stretch_ends
    FROM (SELECT * FROM stretch ORDER BY is_new, tenant_id, metric, starts_at) AS ordered
""")  # noqa: S608 (a constant)

GIVEN = """
    unnest(CAST(:days AS integer[]), CAST(:new_ones AS boolean[]),
           CAST(:stretch_tenant_ids AS text[]), CAST(:stretch_metrics AS text[]),
           CAST(:stretch_starts AS timestamptz[]), CAST(:stretch_ends AS timestamptz[]))
        WITH ORDINALITY AS stretch(day, is_new, tenant_id, metric, starts_at, ends_at, number)
"""

# The first quarter hour of a day begins when the day does, and all others by the clock.
QUARTERS = """
    CROSS JOIN LATERAL (
        SELECT stretch.tenant_id, stretch.metric,
               greatest(quarter, stretch.starts_at) AS starts_at,
               least(quarter + interval '15 minutes', stretch.ends_at) AS ends_at
        FROM generate_series(
            date_bin('15 minutes', stretch.starts_at, timestamptz 'epoch'),
            stretch.ends_at - interval '1 microsecond', interval '15 minutes'
        ) AS quarter
    ) AS span
"""


def _count(condition: str, sums: str) -> str:
    """What is the same is not written: its row would be locked, which costs as much."""
    return f"""
        INSERT INTO usage_quarter_hours (tenant_id, metric, starts_at, total, event_count)
        SELECT span.tenant_id, span.metric, span.starts_at, sums.total, sums.event_count
        FROM {GIVEN}
        {QUARTERS}
        LEFT JOIN meters AS meter ON meter.metric = span.metric
        {sums}
        LEFT JOIN LATERAL (
            SELECT total, event_count FROM usage_quarter_hours AS known
            WHERE known.tenant_id = span.tenant_id AND known.metric = span.metric
              AND known.starts_at = span.starts_at
            OFFSET 0
        ) AS known ON true
        WHERE stretch.number > :done AND stretch.number <= :upto AND {condition}
          AND (coalesce(known.total, 0), coalesce(known.event_count, 0))
              <> (sums.total, sums.event_count)
        ORDER BY span.tenant_id, span.metric, span.starts_at
        ON CONFLICT (tenant_id, metric, starts_at) DO UPDATE
        SET total = excluded.total, event_count = excluded.event_count
    """  # noqa: S608 (constants of this module)


COUNT_PLAIN = text(_count(counting.IS_PLAIN, counting.PLAIN_SUMS))

COUNT = {
    aggregation: text(
        _count(
            f"meter.aggregation = '{aggregation}' AND NOT {counting.IS_PLAIN}",
            counting.sums(aggregation),
        )
    )
    for aggregation in counting.DAY_TOTALS
}

TOUCH_AGAIN = text(
    touched.append(f"""
        SELECT tenant_id, metric, starts_at AS first_at,
               ends_at - interval '1 microsecond' AS last_at
        FROM {GIVEN} WHERE number > :done
    """)  # noqa: S608 (a constant of this module)
)

REMEMBER = text(f"""
    WITH unfinished AS MATERIALIZED (
        SELECT day, min(starts_at) AS known_until
        FROM {GIVEN} WHERE number > :done AND is_new
        GROUP BY day
    ),
    remembered AS (
        UPDATE usage_aggregates AS held
        SET quarter_hours_until = unfinished.known_until, quarter_hours_version = held.version,
            meter_definition = coalesce(meter.definition, 0)
        FROM unfinished
        JOIN {LOCKED.replace(" span(", " total(")} ON total.number = unfinished.day
        LEFT JOIN meters AS meter ON meter.metric = total.metric
        WHERE held.ctid = total.place
    )
    SELECT day FROM unfinished
""")  # noqa: S608 (constants)

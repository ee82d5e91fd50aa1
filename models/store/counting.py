"""What the events of a period come to, in SQL: pieces that roll-up, re-count and reading share.

A statement names its events' period `span (tenant_id, metric, starts_at, ends_at)` and the meter
`meter`, a row that may be all NULL. Without value field and filters, which is nearly always, an
event's row is all that is read.
"""

from typing import Final

from models.rules.meter import Aggregation

# A number in metadata: JSON writes it without exponent. What is no number counts nothing; ingest
# refuses it where the meter is known.
NUMBER: Final = r"'^[+-]?[0-9]{1,18}(\.[0-9]{1,40})?$'"

# CASE, not AND: the cast must not be tried on anything else.
NUMERIC_FIELD: Final = f"""
    CASE WHEN meter.value_field IS NULL THEN event.amount
         WHEN (event.metadata ->> meter.value_field) ~ {NUMBER}
         THEN (event.metadata ->> meter.value_field)::numeric END
"""

_TEXT_FIELD: Final = """
    CASE WHEN meter.value_field IS NULL THEN trim_scale(event.amount)::text
         ELSE event.metadata ->> meter.value_field END
"""

_TOTALS: Final = {
    Aggregation.sum: "coalesce(sum(value), 0)",
    Aggregation.count: "count(*)::numeric",
    Aggregation.max: "coalesce(max(value), 0)",
    Aggregation.unique_count: "count(DISTINCT value)::numeric",
    Aggregation.latest: """
        coalesce((array_agg(value ORDER BY at DESC, received_at DESC, id DESC))[1], 0)
    """,
}

# A metric without a meter is summed, and so is nearly every one that has a meter.
IS_PLAIN: Final = """
    coalesce(meter.aggregation = 'sum' AND meter.value_field IS NULL AND meter.filters = '{}', true)
"""

DAY_TOTALS: Final = {
    Aggregation.sum: "coalesce(sum(day.total), 0)",
    Aggregation.count: "coalesce(sum(day.total), 0)",
    Aggregation.max: "coalesce(max(day.total) FILTER (WHERE day.event_count > 0), 0)",
    Aggregation.latest: """
        coalesce((array_agg(day.total ORDER BY day.period_start DESC)
                  FILTER (WHERE day.event_count > 0))[1], 0)
    """,
}
"""What the totals of days come to, where they tell: different values can not be added up."""

# The voids of a period are looked for once; only where there are some, once an event.
_NOT_VOIDED: Final = """
    AND (NOT voids.some OR NOT EXISTS (SELECT FROM usage_voids WHERE event_id = event.id))
"""

_IN_SPAN: Final = """
    tenant_id = span.tenant_id AND metric = span.metric
    AND at >= span.starts_at AND at < span.ends_at
"""

METRICS_OF_TENANTS: Final = """
    pair AS (
        SELECT tenant.tenant_id, first.metric
        FROM tenant CROSS JOIN LATERAL (
            SELECT metric FROM usage_events AS event WHERE event.tenant_id = tenant.tenant_id
            ORDER BY metric LIMIT 1
        ) AS first
        UNION ALL
        SELECT pair.tenant_id, following.metric
        FROM pair CROSS JOIN LATERAL (
            SELECT metric FROM usage_events AS event
            WHERE event.tenant_id = pair.tenant_id AND event.metric > pair.metric
            ORDER BY metric LIMIT 1
        ) AS following
    )
"""
"""For a WITH RECURSIVE with a table `tenant`: what these have used, one step of the index of their
events a metric."""

HAS_VOIDS: Final = f"""
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM usage_voids WHERE {_IN_SPAN}) AS some) AS voids
"""  # noqa: S608 (constants of this module)

# LATERAL: each period is one range of the index, whatever the planner believes about the rest. The
# index holds the amounts, so the events themselves are not read: what was voided, which it does not
# say, is taken off again.
PLAIN_SUMS: Final = f"""
    CROSS JOIN LATERAL (
        SELECT every.total - voided.total AS total,
               every.event_count - voided.event_count AS event_count
        FROM (
            SELECT coalesce(sum(amount), 0) AS total, count(*) AS event_count
            FROM usage_events WHERE {_IN_SPAN}
        ) AS every
        CROSS JOIN (
            SELECT coalesce(sum(event.amount), 0) AS total, count(*) AS event_count
            FROM (SELECT event_id FROM usage_voids WHERE {_IN_SPAN}) AS voided
            CROSS JOIN LATERAL (
                SELECT amount FROM usage_events WHERE id = voided.event_id OFFSET 0
            ) AS event
        ) AS voided
    ) AS sums
"""  # noqa: S608 (constants of this module)
"""Joins to each `span` its `sums (total, event_count)`: of a metric that is plainly summed."""


COUNTED: Final = f"""
    FROM usage_events AS event
    WHERE {_IN_SPAN} {_NOT_VOIDED}
      AND (meter.filters = '{{}}' OR NOT EXISTS (
          SELECT FROM jsonb_each(meter.filters) AS filter(field, texts)
          WHERE jsonb_exists(filter.texts, event.metadata ->> filter.field) IS NOT TRUE
      ))
"""
"""The events `event` of a `span` that the `meter` counts; behind a join of `HAS_VOIDS`."""


def total(aggregation: Aggregation) -> str:
    """Return what events (value, at, received_at, id) come to."""
    return _TOTALS[aggregation]


def value(aggregation: Aggregation) -> str:
    """Return the value of an `event` that is put together."""
    return _TEXT_FIELD if aggregation is Aggregation.unique_count else NUMERIC_FIELD


def sums(aggregation: Aggregation) -> str:
    """Return the join of each `span` to its `sums (total, event_count)`, as the `meter` says."""
    return f"""
        {HAS_VOIDS}
        CROSS JOIN LATERAL (
            SELECT {total(aggregation)} AS total, count(*) AS event_count
            FROM (SELECT {value(aggregation)} AS value, at, received_at, id {COUNTED}) AS event
            WHERE value IS NOT NULL
        ) AS sums
    """  # noqa: S608 (constants of this module)

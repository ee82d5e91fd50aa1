"""The log of touched days: appended with what touches them, read by whoever counts them.

A row holds all the spans that one statement logs, as arrays: a message of a thousand events touches
hundreds of days, and a row for each would cost the roll-up more than counting their events.
"""

from typing import Final

LONGEST_ROW: Final = 1_000
"""Spans that one row holds at most: a roll-up takes whole rows."""

SPANS: Final = """
    unnest(logged.tenant_ids, logged.metrics, logged.firsts, logged.lasts)
        AS touched(tenant_id, metric, first_at, last_at)
"""
"""The spans `touched` of a row `logged`, for a FROM clause."""


def append(spans: str) -> str:
    """Return the statement that logs `spans`, or nothing if there are none.

    Args:
        spans: a query of (tenant_id, metric, first_at, last_at): both are in the span.
    """
    return f"""
        INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
        SELECT array_agg(tenant_id), array_agg(metric), array_agg(first_at), array_agg(last_at)
        FROM (
            SELECT *, (row_number() OVER () - 1) / {LONGEST_ROW} AS part FROM ({spans}) AS span
        ) AS parted
        GROUP BY part
    """  # noqa: S608 (constants)

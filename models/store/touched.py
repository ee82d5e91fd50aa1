"""The log of touched days: appended with what touches them, read by whoever counts them.

A row holds all the spans that one statement logs, as arrays: a message of a thousand events touches
hundreds of days, and a row for each would cost the roll-up more than counting their events.
"""

from typing import Final

LONGEST_ROW: Final = 1_000
"""Spans that one row holds at most: a roll-up takes whole rows."""

HOUR: Final = "date_bin('1 hour', at, timestamptz 'epoch')"
"""What events are put together by into spans. One that is late by hours must not make a span of all
the time between, which a day that is full would be counted for."""

SPANS: Final = """
    (SELECT unnest(logged.tenant_ids) AS tenant_id, unnest(logged.metrics) AS metric,
            unnest(logged.firsts) AS first_at, unnest(logged.lasts) AS last_at) AS touched
"""
"""The spans `touched` of a row `logged`, for a FROM clause after LATERAL. Arrays side by side in a
SELECT are read in half the time that one `unnest` of them all takes, which stores what it finds."""

ALL_QUARTERS: Final = "1" * 96

WITH_QUARTERS: Final = f"""
    {SPANS}
    CROSS JOIN LATERAL (
        SELECT floor(date_part('epoch', first_at) / 900)::bigint AS first_quarter,
               floor(date_part('epoch', last_at) / 900)::bigint AS last_quarter
    ) AS since_1970
    CROSS JOIN LATERAL (SELECT ((first_quarter % 96 + 96) % 96)::integer AS begin) AS of_day
    CROSS JOIN LATERAL (
        SELECT (B'{ALL_QUARTERS}' >> begin) & (B'{ALL_QUARTERS}' << greatest(
            0, 95 - begin - least(last_quarter - first_quarter, 95)::integer
        )) AS quarters
    ) AS bits
"""
"""The same with the quarter hours, of the UTC day in which a span begins, that it meets: 96 bits. A
span that reaches into the following day meets all that is there of it."""


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

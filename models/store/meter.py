"""Meters: how metrics are counted, and counting anew what a change leaves open.

A roll-up holds `hold` before it takes anything else but tenants, and a change waits for it. So no
total is made by a meter that was replaced meanwhile.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.rules.meter import PLAIN, Aggregation, Definition, Rounding, RoundingMode, Terms
from models.usage import Meter


@dataclass(frozen=True, slots=True)
class Listed:
    """A metric that has a meter, or usage, or both.

    Args:
        terms: None for a metric without a meter: its amounts are added up.
        is_priced: whether a price in force charges for it.
        version: of the meter, 0 without one.
    """

    metric: str
    terms: Terms | None
    is_used: bool
    is_priced: bool
    version: int


def hold(session: Session) -> None:
    """Keep every meter's definition as it is until the transaction ends.

    Any number of transactions may hold it. A lock of the table, not of rows: also a metric that has
    no meter must not get one under a count.
    """
    session.execute(text("LOCK TABLE meters IN ROW SHARE MODE"))


def put(session: Session, metric: str, terms: Terms, *, now: dt.datetime) -> int:
    """Make the meter of a metric be `terms`, and return its version.

    If something else is counted now, open days are marked to be counted anew (`touch_open`).
    Waits for those who `hold` meters: what they count is there when this commits.
    """
    session.execute(text("LOCK TABLE meters IN EXCLUSIVE MODE"))
    stored = session.get(Meter, metric, populate_existing=True)
    if stored is not None and read(stored) == terms:
        return stored.version
    before = PLAIN if stored is None else read(stored).definition
    values = _columns(terms)
    if before != terms.definition:
        values |= {"definition": (stored.definition if stored else 0) + 1, "recount_after": ""}
    version = 1 if stored is None else stored.version + 1
    values |= {"version": version, "updated_at": now}
    session.execute(
        insert(Meter)
        .values(metric=metric, created_at=now, **values)
        .on_conflict_do_update(index_elements=[Meter.metric], set_=values)
    )
    return version


def of_metrics(session: Session, metrics: Collection[str]) -> Mapping[str, Terms]:
    """Return the meters of those of the metrics that have one."""
    found = session.execute(OF_METRICS, {"metrics": sorted(metrics)})
    return {stored.metric: read(stored) for stored in found}


def held(session: Session, metrics: Collection[str]) -> Mapping[str, Terms]:
    """Return the same, and `hold` them as they are."""
    if not metrics:
        return {}
    hold(session)
    return of_metrics(session, metrics)


def listed(
    session: Session, *, now: dt.datetime, limit: int, after: str = "", inactive: bool = False
) -> list[Listed]:
    """Return metrics with a meter or usage, by name, from the one that follows `after`.

    Args:
        inactive: also meters that are not active any more.
    """
    rows = session.execute(LISTED, {"now": now, "limit": limit, "after": after, "all": inactive})
    found = rows.all()
    terms = of_metrics(session, [row.metric for row in found])
    return [
        Listed(row.metric, terms.get(row.metric), row.is_used, row.is_priced, row.version)
        for row in found
    ]


def read(stored: Meter | Row[Any]) -> Terms:
    """Return what a row says."""
    rounding = None
    if stored.rounding_decimals is not None and stored.rounding_mode is not None:
        rounding = Rounding(stored.rounding_decimals, RoundingMode(stored.rounding_mode))
    return Terms(
        definition=Definition(
            aggregation=Aggregation(stored.aggregation),
            value_field=stored.value_field,
            filters=stored.filters,
        ),
        unit=stored.unit,
        rounding=rounding,
        allow_corrections=stored.allow_corrections,
        active=stored.active,
    )


def _columns(terms: Terms) -> dict[str, object]:
    definition, rounding = terms.definition, terms.rounding
    return {
        "aggregation": definition.aggregation,
        "value_field": definition.value_field,
        "filters": {field: list(texts) for field, texts in definition.filters.items()},
        "unit": terms.unit,
        "rounding_decimals": None if rounding is None else rounding.decimals,
        "rounding_mode": None if rounding is None else rounding.mode,
        "allow_corrections": terms.allow_corrections,
        "active": terms.active,
    }


# As text: each chunk of usage asks, and the ORM needs three times as long to put the question.
OF_METRICS = text("""
    SELECT metric, aggregation, value_field, filters, unit, rounding_decimals, rounding_mode,
           allow_corrections, active
    FROM meters WHERE metric = ANY(CAST(:metrics AS text[]))
""")

# Which metrics there are is asked of the totals, one step of their key at a time: their number is
# small, and that of the totals is not. A price counts while its version is in force.
LISTED = text("""
    WITH RECURSIVE pair AS (
        (SELECT tenant_id, metric FROM usage_aggregates ORDER BY tenant_id, metric LIMIT 1)
        UNION ALL
        SELECT following.* FROM pair CROSS JOIN LATERAL (
            SELECT tenant_id, metric FROM usage_aggregates AS held
            WHERE (held.tenant_id, held.metric) > (pair.tenant_id, pair.metric)
            ORDER BY tenant_id, metric LIMIT 1
        ) AS following
    ),
    metrics AS (
        SELECT metric, true AS is_used FROM (SELECT DISTINCT metric FROM pair) AS used
        UNION ALL
        SELECT metric, false FROM meters
    )
    SELECT metrics.metric, bool_or(metrics.is_used) AS is_used,
           coalesce(max(meters.version), 0) AS version,
           EXISTS (
               SELECT FROM prices
               WHERE prices.metric = metrics.metric
                 AND (effective_at IS NULL OR effective_at <= :now)
                 AND (ended_at IS NULL OR :now < ended_at)
           ) AS is_priced
    FROM metrics LEFT JOIN meters ON meters.metric = metrics.metric
    WHERE metrics.metric > :after AND (:all OR meters.active IS NOT FALSE)
    GROUP BY metrics.metric
    ORDER BY metrics.metric
    LIMIT :limit
""")

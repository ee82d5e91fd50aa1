"""Usage of billing periods from their events: by filter and group, by stretch of time, by event."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Row
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules import pricing
from models.rules.billing import Days
from models.rules.meter import UNMETERED, Aggregation, Terms
from models.rules.pricing import Part, Price, Unpriceable, Usage
from models.store import counting, horizon, meter, metering, metering_closed

_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Want:
    """A metric of a tenant on local days, to be priced.

    Args:
        whole: the billing period that the days are in.
    """

    tenant_id: str
    metric: str
    price: Price
    days: Days
    whole: Days
    zone: ZoneInfo

    @property
    def window(self) -> metering.Window:
        """Its days as instants."""
        return metering.Window(self.tenant_id, self.metric, self.days.period(self.zone))


def usages(session: Session, wants: Sequence[Want]) -> list[Usage]:
    """Return what was used of each want, in the same order: a part for each filter and group.

    Raises:
        Unpriceable: events lack what a price is made of, or their meter does not go with it.
        UsageArchived: some of them are archived.
    """
    terms = meter.held(session, {want.metric for want in wants})
    of_kind: dict[str, list[int]] = defaultdict(list)
    for place, want in enumerate(wants):
        of_kind[_kind(want, terms.get(want.metric, UNMETERED))].append(place)
    rows: dict[int, list[Row[Any]]] = defaultdict(list)
    begin = _begin(session, wants)
    for kind, chosen in of_kind.items():
        spans = [_span(place, wants[place]) | {"starts_at": begin[place]} for place in chosen]
        for row in session.execute(STATEMENTS[kind], {"spans": orjson.dumps(spans).decode()}):
            rows[row.place].append(row)
    return [
        _usage(want, terms.get(want.metric, UNMETERED), rows[place])
        for place, want in enumerate(wants)
    ]


def _begin(session: Session, wants: Sequence[Want]) -> list[dt.datetime]:
    """From when on the events of each want are to be read."""
    closed = horizon.of_tenants(session, {want.tenant_id for want in wants})
    asked = [(want.tenant_id, want.metric, want.window.period) for want in wants]
    return metering_closed.opens_at(session, asked, closed=closed)


def _kind(want: Want, terms: Terms) -> str:
    aggregation, price = terms.definition.aggregation, want.price
    if not price.is_by_event and price.max_per is None:
        return aggregation.value
    if aggregation is Aggregation.unique_count:
        raise Unpriceable(
            f"metric {want.metric!r} counts different values, and its price looks at the amount of "
            "each event; it needs a meter of another aggregation"
        )
    return BY_EVENT if price.is_by_event else BY_STRETCH


def _usage(want: Want, terms: Terms, rows: Sequence[Row[Any]]) -> Usage:
    price = want.price
    found: dict[tuple[int | None, str | None], list[Row[Any]]] = defaultdict(list)
    if price.group_by is None:
        found = {(place, None): [] for place in price.places}
    for row in rows:
        found.setdefault((row.filter, row.group), []).append(row)
    return Usage(
        tuple(
            _part(want, terms, part, found[part]) for part in sorted(found, key=pricing.part_order)
        )
    )


def _part(
    want: Want, terms: Terms, part: tuple[int | None, str | None], rows: Sequence[Row[Any]]
) -> Part:
    price = want.price
    if price.is_by_event or price.max_per is not None:
        return Part(tuple((row.value, row.how_many) for row in rows), *part)
    missing = sum(row.missing for row in rows)
    if missing:
        raise Unpriceable(
            f"{missing} events of metric {want.metric!r} have no number in "
            f"metadata.{price.amount_field}, which is what they cost; void them and send them "
            "again with it, under other keys"
        )
    quantity = terms.quantity(rows[0].value) if rows else _ZERO
    charged = rows[0].charged if rows else _ZERO
    return Part(((quantity, 1),), *part, charged)


def _span(place: int, want: Want) -> dict[str, Any]:
    price, window = want.price, want.window
    return {
        "place": place,
        "tenant_id": want.tenant_id,
        "metric": want.metric,
        "starts_at": window.period.start,
        "ends_at": window.period.end,
        "timezone": want.zone.key,
        "filters": [one.match for one in price.filters],
        "group_by": price.group_by,
        "max_per": price.max_per,
        "amount_field": price.amount_field,
        **_allowance(price),
    }


def _allowance(price: Price) -> dict[str, Any]:
    """Until where the order of events matters: the largest allowance of any of the tariffs."""
    terms = [tariff.terms for tariff in price.tariffs]
    given = [one for one in terms if isinstance(one, pricing.Percentage) and one.has_allowance]
    events, amounts = [one.free_events for one in given], [one.free_amount for one in given]
    return {
        "in_order": bool(given),
        "free_events": max((one or NO_LIMIT for one in events), default=0),
        "free_amount": str(max((one or Decimal(NO_LIMIT) for one in amounts), default=0)),
    }


NO_LIMIT: Final = 10**18

BY_EVENT: Final = "by event"
BY_STRETCH: Final = "by stretch"

_SPANS: Final = """
    jsonb_to_recordset(CAST(:spans AS jsonb)) AS span(
        place integer, tenant_id text, metric text, starts_at timestamptz, ends_at timestamptz,
        timezone text, filters jsonb, group_by text, max_per text, amount_field text,
        in_order boolean, free_events bigint, free_amount numeric)
    LEFT JOIN meters AS meter ON meter.metric = span.metric
"""

# The first filter that an event fits into; NULL where none does.
_FILTER: Final = """
    CASE WHEN span.filters <> '[]' THEN (
        SELECT place - 1
        FROM jsonb_array_elements(span.filters) WITH ORDINALITY AS filter(match, place)
        WHERE NOT EXISTS (
            SELECT FROM jsonb_each(filter.match) AS wanted(field, texts)
            WHERE jsonb_exists(wanted.texts, event.metadata ->> wanted.field) IS NOT TRUE
        )
        ORDER BY place LIMIT 1
    ) END
"""

_GROUP: Final = """
    CASE WHEN span.group_by IS NOT NULL THEN coalesce(event.metadata ->> span.group_by, '') END
"""


def _events(value: str, more: str) -> str:
    return f"""
        (
            SELECT {value} AS value, {_FILTER} AS filter, {_GROUP} AS "group", {more}
            {counting.COUNTED}
        ) AS event
        WHERE value IS NOT NULL
    """


_CHARGE: Final = f"""
    CASE WHEN (event.metadata ->> span.amount_field) ~ {counting.NUMBER}
         THEN (event.metadata ->> span.amount_field)::numeric END AS charge
"""


def _of_parts(aggregation: Aggregation) -> str:
    events = _events(counting.value(aggregation), f"at, received_at, id, {_CHARGE}")
    return f"""
        SELECT span.place, part.*
        FROM {_SPANS} {counting.HAS_VOIDS}
        CROSS JOIN LATERAL (
            SELECT filter, "group", {counting.total(aggregation)} AS value,
                   coalesce(sum(charge), 0) AS charged,
                   CASE WHEN span.amount_field IS NULL THEN 0
                        ELSE count(*) FILTER (WHERE charge IS NULL) END AS missing
            FROM {events}
            GROUP BY filter, "group"
        ) AS part
    """  # noqa: S608 (constants of this program)


_OF_STRETCHES: Final = _events(
    counting.NUMERIC_FIELD, "date_trunc(span.max_per, at, span.timezone) AS starts_at"
)

_STRETCHES: Final = f"""
    SELECT span.place, filter, "group", value, count(*) AS how_many
    FROM {_SPANS} {counting.HAS_VOIDS}
    CROSS JOIN LATERAL (
        SELECT filter, "group", max(value) AS value
        FROM {_OF_STRETCHES}
        GROUP BY filter, "group", starts_at
    ) AS stretch
    GROUP BY span.place, filter, "group", value
    ORDER BY span.place, filter, "group", value
"""  # noqa: S608 (constants of this program)

# In order as far as an allowance may reach; behind that, events of one amount are as one row. What
# is free is worked out in one place, which is not here.
_EACH: Final = f"""
    SELECT span.place, filter, "group", value, count(*) AS how_many
    FROM {_SPANS} {counting.HAS_VOIDS}
    CROSS JOIN LATERAL (
        SELECT filter, "group", value,
               CASE WHEN span.in_order THEN row_number() OVER part END AS number,
               CASE WHEN span.in_order THEN sum(value) OVER part - value END AS before
        FROM {_events(counting.NUMERIC_FIELD, "at, received_at, id")}
        WINDOW part AS (PARTITION BY filter, "group" ORDER BY at, received_at, id)
    ) AS one
    CROSS JOIN LATERAL (
        SELECT CASE WHEN number <= free_events AND before < free_amount THEN number END AS number
    ) AS ordered
    GROUP BY span.place, filter, "group", value, ordered.number
    ORDER BY span.place, filter, "group", ordered.number NULLS LAST, value
"""  # noqa: S608 (constants of this program)

STATEMENTS: Final = {
    **{one.value: sql(_of_parts(one)) for one in Aggregation},
    BY_STRETCH: sql(_STRETCHES),
    BY_EVENT: sql(_EACH),
}

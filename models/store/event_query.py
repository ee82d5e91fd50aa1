"""The statement that breaks the events of many tenants down as one price needs it.

It is made for the price: what its filters and groups look at is read from an event's metadata once,
and the filters are a CASE over it. Filters kept as data cost ten times as much an event.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from models.rules import pricing
from models.rules.meter import Aggregation
from models.rules.pricing import Price
from models.store import counting

NO_LIMIT: Final = Decimal("Infinity")


@dataclass(slots=True)
class Query:
    """A statement and its parameters; those of the spans are still missing."""

    text: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    charge: str = "NULL::numeric"

    def bind(self, name: str, value: Any) -> str:
        """Return a placeholder for a value."""
        self.parameters[name] = value
        return f":{name}"

    def key(self, key: str) -> str:
        """Return the column that holds the text of a key of the metadata."""
        if key not in self.keys:
            self.keys.append(key)
        return f"key_{self.keys.index(key)}"

    @property
    def columns(self) -> str:
        """What is read of the metadata."""
        names = [self.bind(f"key_{place}", key) for place, key in enumerate(self.keys)]
        texts = (
            f", event.metadata ->> CAST({name} AS text) AS key_{place}"
            for place, name in enumerate(names)
        )
        return f", {self.charge} AS charge{''.join(texts)}"


def totals(price: Price, aggregation: Aggregation) -> Query:
    """Return the query of what each part comes to by its meter, and of what its events say it cost.

    Rows are (place, filter, group, value, charged, missing): how many events do not say it.
    """
    query, missing = Query(), "0"
    if price.amount_field is not None:
        said = f"event.metadata ->> CAST({query.bind('amount_field', price.amount_field)} AS text)"
        query.charge = f"CASE WHEN ({said}) ~ {counting.NUMBER} THEN ({said})::numeric END"
        missing = "count(*) FILTER (WHERE charge IS NULL)"
    events = _events(query, price, counting.value(aggregation))
    query.text = f"""
        SELECT span.place, part.*
        FROM {SPANS} {counting.HAS_VOIDS}
        CROSS JOIN LATERAL (
            SELECT filter, "group", {counting.total(aggregation)} AS value,
                   coalesce(sum(charge), 0) AS charged, {missing} AS missing
            FROM {events}
            GROUP BY filter, "group"
        ) AS part
    """  # noqa: S608 (constants and names of parameters)
    return query


def greatest(price: Price) -> Query:
    """Return the query of the greatest value of each stretch of time, like ones as one row.

    Rows are (place, filter, group, value, how_many).
    """
    query = Query()
    unit = query.bind("max_per", price.max_per)
    events = _events(query, price, counting.NUMERIC_FIELD)
    query.text = f"""
        SELECT span.place, filter, "group", value, count(*) AS how_many
        FROM {SPANS} {counting.HAS_VOIDS}
        CROSS JOIN LATERAL (
            SELECT filter, "group", max(value) AS value
            FROM {events}
            GROUP BY filter, "group", date_trunc(CAST({unit} AS text), at, span.timezone)
        ) AS stretch
        GROUP BY span.place, filter, "group", value
        ORDER BY span.place, filter, "group", value
    """  # noqa: S608 (constants and names of parameters)
    return query


def by_event(price: Price) -> Query:
    """Return the query of events that are charged each, in order as far as that matters.

    Rows are (place, filter, group, kind, value, total, how_many). A row stands for one event as
    long as an allowance may reach it, and for all of one amount below zero. The others are one row
    a kind: LEAST and MOST have an amount that is as good as theirs, REST only their total.
    """
    query = Query()
    rates = [
        tariff.terms
        for tariff in (price.default, *(one.tariff for one in price.filters))
        if isinstance(tariff.terms, pricing.Percentage)
    ]
    of_filter = {
        name: f"(CAST({query.bind(name, values)} AS numeric[]))[coalesce(filter + 2, 1)]"
        for name, values in (
            ("rates", [one.rate_percent for one in rates]),
            ("least", [one.least for one in rates]),
            ("most", [one.most for one in rates]),
        )
    }
    query.text = f"""
        SELECT span.place, filter, "group", kind, min(value) AS value, sum(value) AS total,
               count(*) AS how_many
        FROM {SPANS} {counting.HAS_VOIDS}
        CROSS JOIN LATERAL (
            SELECT *,
                   CASE WHEN value < 0 OR number IS NOT NULL THEN value END AS amount,
                   CASE WHEN value < 0 OR number IS NOT NULL THEN {EACH}
                        WHEN value * {of_filter["rates"]} < {of_filter["least"]} THEN {LEAST}
                        WHEN value * {of_filter["rates"]} > {of_filter["most"]} THEN {MOST}
                        ELSE {REST} END AS kind
            FROM ({_numbered(query, price, rates)}) AS numbered
        ) AS one
        GROUP BY span.place, filter, "group", kind, number, amount
        ORDER BY span.place, filter, "group", number NULLS LAST, kind, amount
    """  # noqa: S608 (constants and names of parameters)
    return query


EACH, LEAST, REST, MOST = range(4)


def _numbered(query: Query, price: Price, rates: list[pricing.Percentage]) -> str:
    """Events with their number in their part, as long as an allowance may reach them."""
    events = _events(query, price, counting.NUMERIC_FIELD)
    given = [one for one in rates if one.has_allowance]
    if not given:
        return f'SELECT filter, "group", value, NULL::bigint AS number FROM {events}'  # noqa: S608
    # The largest of any tariff: what is behind it is behind each.
    events_free = query.bind("free_events", max(one.free_events or NO_LIMIT for one in given))
    amount_free = query.bind("free_amount", max(one.free_amount or NO_LIMIT for one in given))
    return f"""
        SELECT filter, "group", value,
               CASE WHEN number <= CAST({events_free} AS numeric)
                     AND before < CAST({amount_free} AS numeric) THEN number END AS number
        FROM (
            SELECT filter, "group", value, row_number() OVER part AS number,
                   sum(value) OVER part - value AS before
            FROM {events}
            WINDOW part AS (PARTITION BY filter, "group" ORDER BY at, received_at, id)
        ) AS ordered
    """  # noqa: S608 (constants and names of parameters)


def _events(query: Query, price: Price, value: str) -> str:
    """The counted events (value, at, received_at, id, filter, group) of a span."""
    chosen, group = _filter(query, price), _group(query, price)
    # OFFSET 0: what is read of the metadata is read once, and not again in each of its uses.
    return f"""
        (
            SELECT *, {chosen} AS filter, {group} AS "group"
            FROM (
                SELECT {value} AS value, at, received_at, id {query.columns}
                {counting.COUNTED}
                OFFSET 0
            ) AS event
            WHERE value IS NOT NULL
        ) AS event
    """  # noqa: S608 (constants and names of parameters)


def _filter(query: Query, price: Price) -> str:
    """The place of the first filter that fits; NULL where none does."""
    cases = []
    for place, one in enumerate(price.filters):
        tests = [
            f"{query.key(key)} = ANY({query.bind(f'texts_{place}_{number}', list(texts))})"
            for number, (key, texts) in enumerate(sorted(one.match.items()))
        ]
        cases.append(f"WHEN {' AND '.join(tests)} THEN {place}")
    return f"CASE {' '.join(cases)} END" if cases else "NULL::integer"


def _group(query: Query, price: Price) -> str:
    return "NULL::text" if price.group_by is None else f"coalesce({query.key(price.group_by)}, '')"


SPANS: Final = """
    jsonb_to_recordset(CAST(:spans AS jsonb)) AS span(
        place integer, tenant_id text, metric text, starts_at timestamptz, ends_at timestamptz,
        timezone text)
    LEFT JOIN meters AS meter ON meter.metric = span.metric
"""

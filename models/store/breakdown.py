"""Usage of billing periods from their events: by filter and group, by stretch of time, by event."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Row
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules import money, period, pricing
from models.rules.billing import Days
from models.rules.meter import UNMETERED, Aggregation, Terms
from models.rules.pricing import Model, Part, Price, Unpriceable, Usage
from models.store import event_query, horizon, meter, metering, metering_closed

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

    One statement for each price and kind of meter, whatever the number of tenants.

    Raises:
        Unpriceable: events lack what a price is made of, or their meter does not go with it.
        UsageArchived: some of them are archived.
    """
    terms = meter.held(session, {want.metric for want in wants})
    alike: dict[tuple[int, Aggregation], list[int]] = defaultdict(list)
    for place, want in enumerate(wants):
        aggregation = terms.get(want.metric, UNMETERED).definition.aggregation
        alike[id(want.price), aggregation].append(place)
    begin = _begin(session, wants)
    found: dict[int, Usage] = {}
    for (_, aggregation), places in alike.items():
        query = _query(wants[places[0]], aggregation)
        rows = _rows(session, query, [_span(place, wants[place], begin[place]) for place in places])
        for place in places:
            want = wants[place]
            found[place] = _usage(want, terms.get(want.metric, UNMETERED), rows[place])
    return [found[place] for place in range(len(wants))]


def _begin(session: Session, wants: Sequence[Want]) -> list[dt.datetime]:
    """From when on the events of each want are to be read."""
    closed = horizon.of_tenants(session, {want.tenant_id for want in wants})
    asked = [(want.tenant_id, want.metric, want.window.period) for want in wants]
    return metering_closed.opens_at(session, asked, closed=closed)


def _rows(
    session: Session, query: event_query.Query, spans: Sequence[Mapping[str, Any]]
) -> Mapping[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    parameters = {**query.parameters, "spans": orjson.dumps(spans).decode()}
    for row in session.execute(sql(query.text), parameters):
        found[row.place].append(row)
    return found


def _query(want: Want, aggregation: Aggregation) -> event_query.Query:
    price = want.price
    if price.model is Model.capacity and aggregation is not Aggregation.max:
        raise Unpriceable(
            f"metric {want.metric!r} has the aggregation {aggregation.value!r}, and its price is "
            "for peaks; it needs a meter of the aggregation 'max'"
        )
    if not price.is_by_event and price.max_per is None:
        return event_query.totals(price, aggregation)
    if aggregation is Aggregation.unique_count:
        raise Unpriceable(
            f"metric {want.metric!r} counts different values, and its price looks at the amount of "
            "each event; it needs a meter of another aggregation"
        )
    return event_query.by_event(price) if price.is_by_event else event_query.greatest(price)


def _span(place: int, want: Want, begins_at: dt.datetime) -> dict[str, Any]:
    return {
        "place": place,
        "tenant_id": want.tenant_id,
        "metric": want.metric,
        "starts_at": begins_at,
        "ends_at": want.window.period.end,
        # The one it is told in: days that are counted by themselves stay as they are for good.
        "timezone": period.zone_of(want.whole.after, want.zone).key,
    }


def _usage(want: Want, terms: Terms, rows: Sequence[Row[Any]]) -> Usage:
    price = want.price
    found: dict[tuple[int | None, str | None], list[Row[Any]]] = {}
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
    if want.price.is_by_event:
        return _by_event(part, rows)
    if want.price.max_per is not None:
        return Part(tuple((row.value, row.how_many) for row in rows), *part)
    _check_charges(want, rows)
    quantity = terms.quantity(rows[0].value) if rows else _ZERO
    charged = rows[0].charged if rows else _ZERO
    return Part(((quantity, 1),), *part, charged)


def _by_event(part: tuple[int | None, str | None], rows: Sequence[Row[Any]]) -> Part:
    rest = [(row.total, row.how_many) for row in rows if row.kind == event_query.REST]
    amounts = [(row.value, row.how_many) for row in rows if row.kind != event_query.REST]
    with money.exact():
        total = sum((row.total for row in rows), _ZERO)
    return Part(tuple(amounts), *part, rest=rest[0] if rest else pricing.NO_REST, sum=total)


def _check_charges(want: Want, rows: Sequence[Row[Any]]) -> None:
    missing = sum(row.missing for row in rows)
    if missing:
        raise Unpriceable(
            f"{missing} events of metric {want.metric!r} have no number in "
            f"metadata.{want.price.amount_field}, which is what they cost; void them and send them "
            "again with it, under other keys"
        )

"""What a quote says was used: a sum, events, groups, peaks, a stretch of time, levels by day."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from models.rules import money, pricing
from models.rules.pricing import InvalidPrice, Model, Part, Reader, Usage

MOST_DAYS: Final = 366
"""Days of a period."""

_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Case:
    price: pricing.Price
    used: Reader
    params: Reader
    currency: str


def read(price: pricing.Price, used: Reader, params: Reader, currency: str) -> Usage:
    """Return usage as finely as a price needs it.

    Args:
        used: the input; what it is given by is taken out of it.
        params: those that say something of the case, such as its period.

    Raises:
        InvalidPrice: something is wrong or missing; it says where, and what would be right.
        Unpriceable: an event lacks what its price is made of.
    """
    case = _Case(price, used, params, currency)
    if price.recurring:
        return _lasting(case)
    for name, shape in _SHAPES.items():
        if name in used.names:
            return shape(case)
    if price.model is Model.fixed:
        return pricing.total(Decimal(1))
    raise InvalidPrice.of(used.at("units"), None, f"must be given, or one of {', '.join(_SHAPES)}")


def after(before: Decimal, usage: Usage) -> Usage:
    """Return usage with what had been used before it."""
    with money.exact():
        return pricing.total(before + usage.quantity)


def _units(case: _Case) -> Usage:
    units, price = case.used.number("units"), case.price
    if price.filters or price.group_by or price.max_per or price.amount_field:
        must = "must be left out: this price looks at events; give `events`"
        raise InvalidPrice.of(case.used.at("units"), units, must)
    return pricing.total(units)


def _event_amounts(case: _Case) -> Usage:
    amounts = case.used.numbers("event_amounts")
    if case.price.amount_field is None:
        return _in_one_part(amounts)
    with money.exact():
        return _charged(sum(amounts, _ZERO))


def _bucket_max(case: _Case) -> Usage:
    return _in_one_part(case.used.numbers("bucket_max"))


def _in_one_part(amounts: list[Decimal]) -> Usage:
    return Usage((Part(tuple((amount, 1) for amount in amounts)),))


def _cents(case: _Case) -> Usage:
    with money.exact():
        cents = sum(case.used.numbers("precise_total_amount_cents"), _ZERO)
        return _charged(cents.scaleb(-money.minor_unit(case.currency)))


def _charged(amount: Decimal) -> Usage:
    return Usage((Part(((amount, 1),), charged=amount),))


def _groups(case: _Case) -> Usage:
    return _by_name(case, "groups")


def _peaks(case: _Case) -> Usage:
    return _by_name(case, "peaks")


def _by_name(case: _Case, field: str) -> Usage:
    found = case.used.nested(field) or Reader({}, case.used.at(field))
    return Usage(
        tuple(Part(((found.number(name), 1),), group=name) for name in sorted(found.names))
    )


def _seconds(case: _Case) -> Usage:
    start, end = (_instant(case.used, name) for name in ("from", "to"))
    if (start.tzinfo is None) != (end.tzinfo is None) or end < start:
        must = f"must not be before {start.isoformat()}, and name a zone if that does"
        raise InvalidPrice.of(case.used.at("to"), end.isoformat(), must)
    microseconds = Decimal((end - start) // dt.timedelta(microseconds=1))
    return pricing.total(microseconds.scaleb(-6))


def _events(case: _Case) -> Usage:
    events = [
        pricing.Event(
            one.number("amount"),
            _instant(one, "at") if "at" in one.names else None,
            _metadata(one),
        )
        for one in case.used.listed("events")
    ]
    return pricing.of_events(case.price, events)


def _metadata(event: Reader) -> Mapping[str, Any]:
    found = event.nested("metadata")
    event.close()
    return {} if found is None else {name: found.raw(name) for name in found.names}


_SHAPES: Final[Mapping[str, Callable[[_Case], Usage]]] = {
    "units": _units,
    "event_amounts": _event_amounts,
    "bucket_max": _bucket_max,
    "precise_total_amount_cents": _cents,
    "groups": _groups,
    "peaks": _peaks,
    "from": _seconds,
    "events": _events,
}


def _lasting(case: _Case) -> Usage:
    """Units that live on: those from before the period, and changes by day."""
    days = _days(case.params)
    changes = dict.fromkeys(days, _ZERO)
    for place, pair in enumerate(case.used.values("events", ())):
        path = f"{case.used.at('events')}[{place}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidPrice.of(path, pair, "must be a day and how many units came or went")
        change = Reader({"day": pair[0], "units": pair[1]}, path)
        day = _day(change, "day")
        if day not in changes:
            must = f"must be {days[0]} to {days[-1]}, the days of the period"
            raise InvalidPrice.of(change.at("day"), str(day), must)
        with money.exact():
            changes[day] += change.number("units")
    before = case.params.number("persisted_units", _ZERO)
    return pricing.recurring(pricing.levels(before, changes.values()), days_of_period=len(days))


def _days(params: Reader) -> list[dt.date]:
    bounds = Reader(dict(zip(("first", "last"), params.values("period"), strict=False)), "period")
    first, last = _day(bounds, "first"), _day(bounds, "last")
    count = (last - first).days + 1
    if not 1 <= count <= MOST_DAYS:
        must = f"must be 1 to {MOST_DAYS} days from the first, {first}"
        raise InvalidPrice.of("params.period", str(last), must)
    return [first + dt.timedelta(days=place) for place in range(count)]


def _day(reader: Reader, name: str) -> dt.date:
    text = reader.text(name)
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InvalidPrice.of(reader.at(name), text, "must be a date, as 2026-01-31") from None


def _instant(reader: Reader, name: str) -> dt.datetime:
    text = reader.text(name)
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        must = "must be an instant, as 2026-01-31T12:00:00+00:00"
        raise InvalidPrice.of(reader.at(name), text, must) from None

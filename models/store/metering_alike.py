"""What many tenants used of the same metrics over the same stretches, asked and told in columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy.orm import Session

from models.rules.meter import UNMETERED, Aggregation, Terms
from models.rules.period import Period
from models.store import meter, metering
from models.store.metering import Window


@dataclass(frozen=True, slots=True)
class Windows:
    """A metric of many tenants over the same stretch of time."""

    tenant_ids: Sequence[str]
    metric: str
    period: Period

    def window(self, place: int) -> Window:
        """The same of one of them."""
        return Window(self.tenant_ids[place], self.metric, self.period)


Column = list[Decimal | None]
"""What each tenant used; None where days do not tell it."""


def quantities(session: Session, asked: Sequence[Windows]) -> list[list[Decimal]]:
    """Return what `metering.quantities` does, of each tenant in order, in a fraction of the time.

    It is the same: what the totals of days do not tell is asked for window by window. What is
    closed they tell like what is open: those of closed days stay, and none is across a horizon.

    Raises:
        UsageArchived: part of a window is closed, and its totals do not tell what is asked.
    """
    terms = meter.held(session, {one.metric for one in asked})
    found: list[Column] = [[None] * len(one.tenant_ids) for one in asked]
    _ask_days(session, asked, found, terms)
    rest = _rest(session, asked, found)
    return [
        _billed(column, terms.get(one.metric, UNMETERED), rest)
        for one, column in zip(asked, found, strict=True)
    ]


def _ask_days(
    session: Session, asked: Sequence[Windows], found: list[Column], terms: Mapping[str, Terms]
) -> None:
    """Write down what days tell."""
    alike: dict[Aggregation, list[int]] = {}
    for number, one in enumerate(asked):
        aggregation = terms.get(one.metric, UNMETERED).definition.aggregation
        alike.setdefault(aggregation, []).append(number)
    for aggregation in metering.FROM_DAYS.keys() & alike.keys():
        wanted = [_wanted(number, asked[number]) for number in alike[aggregation]]
        rows = session.execute(
            metering.FROM_DAYS[aggregation], {"windows": orjson.dumps(wanted).decode()}
        )
        for number, place, total in rows.all():
            found[number][place - 1] = total


def _wanted(number: int, one: Windows) -> dict[str, Any]:
    return {
        "number": number,
        "metric": one.metric,
        "starts_at": one.period.start,
        "ends_at": one.period.end,
        "tenant_ids": one.tenant_ids,
    }


def _rest(session: Session, asked: Sequence[Windows], found: Sequence[Column]) -> Iterator[Decimal]:
    """What is still to be known, in the order of its places."""
    windows = [
        one.window(place)
        for one, column in zip(asked, found, strict=True)
        if None in column
        for place, total in enumerate(column)
        if total is None
    ]
    return iter(metering.quantities(session, windows) if windows else ())


def _billed(column: Column, terms: Terms, rest: Iterator[Decimal]) -> list[Decimal]:
    return [next(rest) if total is None else terms.quantity(total) for total in column]

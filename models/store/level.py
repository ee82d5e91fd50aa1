"""Units that live on: how many there were, day by day."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from sqlalchemy.orm import Session

from models.rules import billing, pricing
from models.rules.meter import UNMETERED, Aggregation, Terms
from models.rules.period import Period
from models.rules.pricing import Unpriceable, Usage
from models.store import meter, metering
from models.store.breakdown import Want

_BEGINNING: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def usages(session: Session, wants: Sequence[Want]) -> list[Usage]:
    """Return the levels of each want, in the same order, and for how many days each lasted.

    A day has the level at its end. Units from before the days count, from whenever they are.

    Raises:
        Unpriceable: the meter does not add up what its events say.
    """
    terms = meter.held(session, {want.metric for want in wants})
    windows: list[metering.Window] = []
    for want in wants:
        _check_adds_up(want.metric, terms.get(want.metric, UNMETERED))
        windows += _day_windows(want)
    changes = dict(zip(windows, metering.exact_quantities(session, windows), strict=True))
    return [_levels(want, changes) for want in wants]


def _levels(want: Want, changes: Mapping[metering.Window, Decimal]) -> Usage:
    before, *days = (changes[window] for window in _day_windows(want))
    # A day that a change of the clocks left out of the calendar has the level of the day before.
    left_out = [Decimal(0)] * (len(want.days) - len(days))
    levels = pricing.levels(before, [*days, *left_out])
    return pricing.recurring(levels, days_of_period=len(want.whole))


def _day_windows(want: Want) -> Iterator[metering.Window]:
    """What was before the days, and each of them."""
    covered = want.days.period(want.zone)
    yield metering.Window(want.tenant_id, want.metric, Period(_BEGINNING, covered.start))
    for place in range(len(want.days)):
        start, end = (
            billing.midnight(want.days.first + dt.timedelta(days=day), want.zone)
            for day in (place, place + 1)
        )
        if start < end:
            yield metering.Window(want.tenant_id, want.metric, Period(start, end))


def _check_adds_up(metric: str, terms: Terms) -> None:
    aggregation = terms.definition.aggregation
    if aggregation not in {Aggregation.sum, Aggregation.count}:
        raise Unpriceable(
            f"metric {metric!r} has the aggregation {aggregation.value!r}, and units of a "
            "recurring price come and go by events that add up; it needs 'sum' or 'count'"
        )

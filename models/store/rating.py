"""Usage of billing periods, as finely as each price needs it."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from sqlalchemy.orm import Session

from models.rules import pricing
from models.rules.pricing import Usage
from models.store import breakdown, level, metering
from models.store.breakdown import Want

Reader = Callable[[Session, Sequence[Want]], list[Usage]]


def usages(session: Session, wants: Sequence[Want]) -> list[Usage]:
    """Return what was used of each want, in the same order.

    Where the sum is enough it comes from the totals of days, as of the last roll-up; otherwise from
    the events. Meters stay as they are until the transaction ends: call `meter.hold` before it
    locks anything else.

    Raises:
        Unpriceable: events lack what a price is made of, or their meter does not go with it.
    """
    if all(want.price.is_of_total for want in wants):
        return _totals(session, wants)
    of_reader: dict[Reader, list[int]] = defaultdict(list)
    for place, want in enumerate(wants):
        of_reader[_reader(want)].append(place)
    found: dict[int, Usage] = {}
    for read, places in of_reader.items():
        found |= zip(places, read(session, [wants[place] for place in places]), strict=True)
    return [found[place] for place in range(len(wants))]


def _reader(want: Want) -> Reader:
    if want.price.is_of_total:
        return _totals
    return level.usages if want.price.recurring else breakdown.usages


def _totals(session: Session, wants: Sequence[Want]) -> list[Usage]:
    quantities = metering.quantities(session, [want.window for want in wants])
    return [pricing.total(quantity) for quantity in quantities]

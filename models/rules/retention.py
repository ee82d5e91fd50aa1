"""When the usage of a month has done its work: it is old, and no invoice can need it any more."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from models.rules import calendar_periods

_NEVER: Final = date.min


class Holding(StrEnum):
    """What keeps a tenant's usage from being archived further than it is."""

    age = "age"
    """It is not old enough yet."""
    unbilled = "unbilled"
    """A subscription has days that no invoice was made for."""
    draft = "draft"
    """An invoice over it is still a draft."""
    late = "late"
    """Some of it came after its invoice, and is not billed yet."""
    void = "void"
    """An invoice over it was withdrawn, and no other one charged for those days."""
    uninvoiced = "uninvoiced"
    """No final invoice reaches so far: it was never charged for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a tenant's days are settled, as local days; None where there is nothing of the kind.

    Args:
        old_until: the first day that is not old enough.
        unbilled_from: the first day of a subscription that no invoice was made for.
        drafted_from: the first day of the oldest draft.
        late_from: the first day of the oldest invoice with late usage that is not billed yet.
        voided_from: the first day of the oldest void invoice that no final one makes up for.
        invoiced_until: the day after the last one that a final invoice covers.
    """

    old_until: date
    unbilled_from: date | None
    drafted_from: date | None
    voided_from: date | None
    invoiced_until: date | None
    late_from: date | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The first day of the first month that is not settled, and what holds that one back."""

    until: date
    held_by: Holding


def settled(standing: Standing, *, even_uninvoiced: bool) -> Settled:
    """Return how far whole months are settled: old, and final in every invoice that may need them.

    A month is settled when up to its end no subscription has an unbilled day, no invoice is a draft
    or was withdrawn for nothing, and a final invoice ends there or later. So usage from before the
    first or between two subscriptions leaves with what was billed after it, and usage of a metric
    without a price with the invoice of its days.

    Args:
        even_uninvoiced: whether usage may be archived that no invoice ever charged for.
    """
    limits = {
        Holding.age: standing.old_until,
        Holding.unbilled: standing.unbilled_from,
        Holding.draft: standing.drafted_from,
        Holding.late: standing.late_from,
    }
    if not even_uninvoiced:
        limits[Holding.void] = standing.voided_from
        limits[Holding.uninvoiced] = standing.invoiced_until or _NEVER
    until, held_by = min(
        (day, place, holding)
        for place, (holding, day) in enumerate(limits.items())
        if day is not None
    )[::2]
    return Settled(until.replace(day=1), held_by)


def months(first: date, until: date) -> Iterator[tuple[date, date]]:
    """Yield the months from the one that holds `first` up to `until`, each with the one after it.

    Args:
        until: the first day of a month, which is not one of them.
    """
    month = first.replace(day=1)
    while month < until:
        following = calendar_periods.add_months(month, 1)
        yield month, following
        month = following

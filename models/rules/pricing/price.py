"""A price: what is charged by which model, and what else holds of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from models.rules.pricing import checks
from models.rules.pricing.blocks import Capacity
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.filter import Filter
from models.rules.pricing.percentage import Dynamic, Percentage
from models.rules.pricing.tariff import OF_FEES, OF_QUANTITIES, Model, Tariff
from models.rules.pricing.tiers import Graduated
from models.rules.pricing.units import Fixed, PerUnit

MOST_FILTERS: Final = 100
"""Filters of one price."""


class Stretch(StrEnum):
    """A stretch of local time."""

    minute = "minute"
    hour = "hour"
    day = "day"

    def start_of(self, at: datetime) -> datetime:
        """Return when the stretch began that holds a local instant."""
        minute = at.replace(second=0, microsecond=0)
        if self is Stretch.minute:
            return minute
        return (
            minute.replace(minute=0) if self is Stretch.hour else minute.replace(hour=0, minute=0)
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What usage, or a fee, costs in major units of the line's currency. Raises InvalidPrice.

    Args:
        default: the price of what no filter matches.
        filters: an event falls in the first one that matches; all have the model of the default.
        group_by: a key of the metadata; each of its values is priced by itself.
        max_per: the greatest value in each such stretch of time is priced, by itself.
        recurring: units live on until they are taken back; each local day's level is charged for
            its share of the period.
        min_spend, max_spend: the least and the most a whole period costs.
        prorate: whether tiers, allowances, fees and limits are those of a whole period, so that a
            line over some of its days has that share of them.

    `is_plain` is true of a quantity times an amount, and nothing else; `is_of_total` where the sum
    of what was used is all that it needs.
    """

    default: Tariff
    filters: tuple[Filter, ...] = ()
    group_by: str | None = None
    max_per: Stretch | None = None
    recurring: bool = False
    min_spend: Decimal | None = None
    max_spend: Decimal | None = None
    prorate: bool = True
    is_plain: bool = field(init=False, compare=False, repr=False)
    is_of_total: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        checks.amount("min_spend", self.min_spend)
        checks.amount("max_spend", self.max_spend)
        least, most = self.min_spend, self.max_spend
        if least is not None and most is not None and least > most:
            raise InvalidPrice.of("min_spend", least, f"must be at most max_spend, {most}")
        if self.group_by is not None:
            checks.key("group_by", self.group_by)
        if len(self.filters) > MOST_FILTERS:
            raise InvalidPrice.of("filters", len(self.filters), f"must be at most {MOST_FILTERS}")
        _check_filters(self)
        _check_model(self)
        # Asked for each line, so it is worked out once.
        object.__setattr__(self, "is_of_total", _is_of_total(self))
        object.__setattr__(self, "is_plain", _is_plain(self))

    @property
    def model(self) -> Model:
        """Which model it is of."""
        return self.default.model

    @property
    def unit_price(self) -> Decimal | None:
        """The fee, or what each unit costs; None where no single amount says it."""
        terms = self.default.terms
        return terms.unit_price if isinstance(terms, Fixed | PerUnit) else None

    @property
    def can_be_fee(self) -> bool:
        """Whether seats can be charged by it: it has no limits, and nothing that is of usage."""
        return isinstance(self.default.terms, OF_FEES) and self == Price(self.default)

    @property
    def is_by_event(self) -> bool:
        """Whether it needs the amount of each event."""
        return any(
            isinstance(tariff.terms, Percentage) and tariff.terms.is_by_event
            for tariff in self.tariffs
        )

    @property
    def amount_field(self) -> str | None:
        """The key of the metadata under which an event says what it costs, if it does."""
        terms = self.default.terms
        return terms.amount_field if isinstance(terms, Dynamic) else None

    @property
    def tariffs(self) -> Iterator[Tariff]:
        """That of each filter, and that of the rest."""
        yield from (one.tariff for one in self.filters)
        yield self.default

    @property
    def places(self) -> list[int | None]:
        """The places of its filters, and None for what none of them matches."""
        return [*range(len(self.filters)), None]

    def place_of(self, metadata: Mapping[str, Any]) -> int | None:
        """Return the place of the filter that an event falls in."""
        fitting = (place for place, one in enumerate(self.filters) if one.fits(metadata))
        return next(fitting, None)

    def tariff(self, place: int | None) -> Tariff:
        """Return the tariff of a filter, or of what none matches."""
        return self.default if place is None else self.filters[place].tariff


def _is_of_total(price: Price) -> bool:
    needs = price.filters, price.group_by, price.max_per, price.amount_field
    return not any(needs) and not price.is_by_event and not price.recurring


def _is_plain(price: Price) -> bool:
    """Whether it is a quantity times an amount, and nothing else."""
    terms, limits = price.default.terms, (price.min_spend, price.max_spend)
    return (
        isinstance(terms, PerUnit)
        and price.default == Tariff(PerUnit(terms.unit_price))
        and price.is_of_total
        and limits == (None, None)
    )


def _check_filters(price: Price) -> None:
    for place, one in enumerate(price.filters):
        if one.tariff.model is not price.model:
            must = f"must be that of the price, {price.model}"
            raise InvalidPrice.of(f"filters[{place}].model", one.tariff.model.value, must)
        terms = one.tariff.terms
        if isinstance(terms, Dynamic) and terms.amount_field != price.amount_field:
            must = f"must be that of the price, {price.amount_field!r}"
            raise InvalidPrice.of(f"filters[{place}].amount_field", terms.amount_field, must)


def _check_model(price: Price) -> None:
    terms = price.default.terms
    if isinstance(terms, Fixed):
        _refuse(price, "filters", "group_by", "max_per", "recurring", "min_spend", "max_spend")
    if isinstance(terms, Capacity):
        _refuse(price, "filters", "max_per", "recurring")
        if price.group_by is None:
            must = "must be the key of the metadata that names what peaks"
            raise InvalidPrice.of("group_by", None, must)
    if not isinstance(terms, OF_QUANTITIES):
        _refuse(price, "max_per")
    if not isinstance(terms, PerUnit | Graduated):
        _refuse(price, "recurring")
    if price.recurring:
        _refuse(price, "filters", "group_by", "max_per", because="units live on")


def _refuse(price: Price, *names: str, because: str | None = None) -> None:
    for name in names:
        value = getattr(price, name)
        if value not in (None, False, ()):
            reason = because or f"the model is {price.model}"
            raise InvalidPrice.of(name, _shown(value), f"must be left out where {reason}")


def _shown(value: object) -> object:
    return len(value) if isinstance(value, tuple) else value

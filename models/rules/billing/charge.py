"""A line to be: a version of a price, for what it and a subscription share of a period."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from models.rules import period, pricing
from models.rules.billing.invoice_line import Plain
from models.rules.billing.price_version import PriceVersion
from models.rules.billing.spans import Days, Span, in_units, touched, unit_of
from models.rules.billing.subscription import Subscription
from models.rules.period import Period


@dataclass(frozen=True, slots=True)
class Charge:
    """A line to be: one version of a price for one subscription, over the `part` that both share of
    a `whole` period.

    `plain`: its line, where that is a quantity times an amount; None where it was not worked out.
    """

    subscription: Subscription
    version: PriceVersion
    part: Span
    whole: Days
    period: Period
    zone: ZoneInfo
    plain: Plain | None = None

    def of(self, subscription: Subscription) -> "Charge":
        """Return the same for another subscription."""
        return Charge(
            subscription, self.version, self.part, self.whole, self.period, self.zone, self.plain
        )

    @property
    def days(self) -> Days:
        """The local days that it has time on."""
        return touched(self.part, self.zone)

    @property
    def shown(self) -> ZoneInfo:
        """The zone that the period is told in: the one in which it ends."""
        return period.zone_of(self.whole.after, self.zone)

    @property
    def units_of_period(self) -> int:
        """How many days, or seconds, the period has."""
        return len(in_units(unit_of(self.part), self.whole, self.zone))

    @property
    def share(self) -> Fraction:
        """Its days, or its seconds, as a share of the period's."""
        if self.part == self.whole:
            return pricing.WHOLE
        return Fraction(len(self.part), self.units_of_period)

    @property
    def details(self) -> dict[str, Any]:
        """What the details of every line of it say. Do not change them."""
        version = self.version
        return _details(
            version.plan_key,
            version.price_key,
            version.price.model.value,
            (units_of(self.part), len(self.part), self.units_of_period),
        )


def units_of(part: Span) -> str:
    """Return the name of what a part of a period is counted in, as a line's details say it."""
    return f"{unit_of(part).value}s"


# One object for all lines that say the same, since it is written down once, too: nobody changes it.
@lru_cache(maxsize=8192)
def _details(
    plan_key: str, price_key: str, model: str, share: tuple[str, int, int]
) -> dict[str, Any]:
    units, count, of = share
    return {
        "plan_key": plan_key,
        "price_key": price_key,
        "model": model,
        units: count,
        f"{units}_of_period": of,
    }

"""A line of an invoice, and the short way to those that are a quantity times an amount."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from models.rules import money
from models.rules.billing.price_version import PriceVersion
from models.rules.period import Period


@dataclass(frozen=True, slots=True)
class Line:
    """One priced row of an invoice, rounded once to minor units.

    `adjusts`: the invoice that billed its period before, of an adjustment.
    """

    kind: str
    subscription_id: UUID
    price_id: UUID
    metric: str | None
    description: str
    quantity: Decimal
    unit_amount: Decimal | None
    amount_minor: int
    period: Period
    details: dict[str, Any]
    adjusts: UUID | None = None


class Plain:
    """The lines of one charge that are a quantity times an amount, and nothing else. Nearly all
    are, and they say the same but for their quantity: what `pricing.rate` makes of them, in a third
    of the time.

    Args:
        covers: the period of the lines.
        details: of the lines, as `Charge.details`.

    Raises money.UnknownCurrency.
    """

    __slots__ = ("_amount", "_parts", "_same")

    def __init__(
        self, version: PriceVersion, currency: str, covers: Period, details: dict[str, Any]
    ) -> None:
        unit = version.price.unit_price
        assert unit is not None  # noqa: S101 (it would not be plain)
        numerator, self._parts = unit.as_integer_ratio()
        self._amount = numerator * 10 ** money.minor_unit(currency)
        self._same = (
            version.kind,
            version.id,
            version.metric,
            version.description or version.price_key,
            unit,
            covers,
            details,
        )

    def line(self, subscription_id: UUID, quantity: Decimal) -> Line:
        """Return the line of a quantity. Raises money.AmountOutOfRange."""
        kind, price_id, metric, description, unit, covers, details = self._same
        units, parts = money.exact_ratio(quantity)
        minor = money.divided_half_up(units * self._amount, parts * self._parts)
        return Line(
            kind,
            subscription_id,
            price_id,
            metric,
            description,
            quantity,
            unit,
            minor,
            covers,
            details,
        )


def is_by_second(line: Line) -> bool:
    """Tell whether a line's share of its period is in seconds."""
    return "seconds" in line.details

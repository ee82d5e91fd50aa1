"""What invoices charge for, worked out once for all subscriptions that are billed alike."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from models.rules import billing
from models.rules.billing import Charge, Days, Line, Plain, PriceVersion, Subscription
from models.rules.proration import Proration


@dataclass(frozen=True, slots=True)
class Alike:
    """What subscriptions are charged for that are billed alike, as it is of one of them.

    `plain`: the lines of the charges, where all of them are usage at plain prices; else none.
    """

    charges: Sequence[Charge]
    plain: Sequence[Plain] = field(default=())

    def lines(
        self, subscription_ids: Sequence[UUID], quantities: Sequence[Sequence[Decimal]]
    ) -> list[list[Line]]:
        """Return the lines of each subscription, as `billing.lines` does, where there are `plain`.

        Args:
            quantities: for each charge what was used on its days, of each subscription.

        Raises money.AmountOutOfRange.
        """
        columns = [
            list(map(plain.line, subscription_ids, column))
            for plain, column in zip(self.plain, quantities, strict=True)
        ]
        return [list(lines) for lines in zip(*columns, strict=True)]


class Charging:
    """`billing.charges` for the invoices of a run: thousands are on the same few plans and charged
    for the same few days.

    Args:
        versions: of prices, by plan and currency; they must not change meanwhile.
    """

    def __init__(self, versions: Mapping[tuple[str, str], Sequence[PriceVersion]]) -> None:
        self._versions = versions
        self._of_days: dict[tuple[str, str], bool] = {}
        self._known: dict[Hashable, Alike] = {}

    def charges(
        self, subscriptions: Sequence[Subscription], *, days: Days, zone: ZoneInfo
    ) -> list[Charge]:
        """Return what an invoice for `days` charges for, as `billing.charges` does."""
        found = self.alike(subscriptions, days=days, zone=zone)
        if found is None:
            return billing.charges(subscriptions, self._versions, days=days, zone=zone)
        one, alike = found
        return [charge.of(one) for charge in alike.charges]

    def alike(
        self, subscriptions: Sequence[Subscription], *, days: Days, zone: ZoneInfo
    ) -> tuple[Subscription, Alike] | None:
        """Return the one subscription that an invoice for `days` charges for, with what all have
        in common that are charged for like it; None where it has to be looked at by itself.
        """
        billed = [one for one in subscriptions if one.is_billed_for(days, zone)]
        if len(billed) == 1 and self._is_told_by_days(billed[0]):
            return billed[0], self._alike(billed[0], days, zone)
        return None

    def _is_told_by_days(self, one: Subscription) -> bool:
        """Whether plan and days say it all: seats, fees ahead and seconds look at instants."""
        if one.seats or one.proration is not Proration.day:
            return False
        key = one.plan_key, one.currency
        if key not in self._of_days:
            self._of_days[key] = not any(each.ahead for each in self._versions.get(key, ()))
        return self._of_days[key]

    def _alike(self, one: Subscription, days: Days, zone: ZoneInfo) -> Alike:
        charged = one.charged_days(zone)
        begins = one.owes_setup and charged.first >= days.first
        key = one.plan_key, one.currency, days, zone, charged.overlap(days), begins
        known = self._known.get(key)
        if known is None:
            found = billing.charges([one], self._versions, days=days, zone=zone)
            known = self._known[key] = _alike([_with_line(charge) for charge in found])
        return known


def _alike(charges: Sequence[Charge]) -> Alike:
    plain = [charge.plain for charge in charges if charge.plain is not None]
    return Alike(charges, plain if len(plain) == len(charges) else ())


def _with_line(charge: Charge) -> Charge:
    if charge.version.metric is None or not charge.version.price.is_plain:
        return charge
    plain = billing.Plain(
        charge.version, charge.subscription.currency, charge.period, charge.details
    )
    return replace(charge, plain=plain)

"""What invoices charge for, worked out once for all subscriptions that are billed alike."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from models.rules import billing
from models.rules.billing import Charge, Days, PriceVersion, Subscription


class Charging:
    """`billing.charges` for the invoices of a run: thousands are on the same few plans and charged
    for the same few days.

    Args:
        versions: of prices, by plan and currency; they must not change meanwhile.
    """

    def __init__(self, versions: Mapping[tuple[str, str], Sequence[PriceVersion]]) -> None:
        self._versions = versions
        self._of_days: dict[tuple[str, str], bool] = {}
        self._known: dict[Hashable, list[Charge]] = {}

    def charges(
        self, subscriptions: Sequence[Subscription], *, days: Days, zone: ZoneInfo
    ) -> list[Charge]:
        """Return what an invoice for `days` charges for, as `billing.charges` does."""
        billed = [one for one in subscriptions if one.is_billed_for(days, zone)]
        if len(billed) == 1 and self._is_told_by_days(billed[0]):
            return self._alike(billed[0], days, zone)
        return billing.charges(billed, self._versions, days=days, zone=zone)

    def _is_told_by_days(self, one: Subscription) -> bool:
        """Whether plan and days say it all: seats and fees ahead look at instants."""
        if one.seats:
            return False
        key = one.plan_key, one.currency
        if key not in self._of_days:
            self._of_days[key] = not any(each.ahead for each in self._versions.get(key, ()))
        return self._of_days[key]

    def _alike(self, one: Subscription, days: Days, zone: ZoneInfo) -> list[Charge]:
        charged = one.charged_days(zone)
        begins = one.owes_setup and charged.first >= days.first
        key = one.plan_key, one.currency, days, zone, charged.overlap(days), begins
        known = self._known.get(key)
        if known is None:
            found = billing.charges([one], self._versions, days=days, zone=zone)
            known = self._known[key] = [_with_line(charge) for charge in found]
        return [charge.of(one) for charge in known]


def _with_line(charge: Charge) -> Charge:
    if charge.version.metric is None or not charge.version.price.is_plain:
        return charge
    return replace(charge, plain=billing.Plain(charge))

"""When a tenant is told that its credit is low."""

from collections.abc import Iterable
from decimal import Decimal


def crossed(thresholds: Iterable[Decimal], *, before: Decimal, now: Decimal) -> list[Decimal]:
    """The thresholds that an available amount fell to or below, the highest first.

    It was above each of them before. So each is told once a crossing, and again only after the
    amount has been above it: from 10 to 5 crosses 5, from 5 to 4 does not.
    """
    return sorted((one for one in thresholds if before > one >= now), reverse=True)

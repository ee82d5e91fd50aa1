"""What must be true at the end of the demo, worked out apart from the program being checked.

Plain Decimal arithmetic over the events that were sent; nothing of `models.rules` is used.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal

from worker.demo.scenario import PRICES, Scenario, Tenant

MINOR_UNITS = {"USD": 2, "EUR": 2, "JPY": 0}


def invoice_lines(scenario: Scenario, tenant: Tenant) -> dict[str, int]:
    """Return what each price must come to on a tenant's invoice, in minor units."""
    lines = {}
    for price in PRICES:
        quantity = scenario.totals[tenant.tenant_id, price.metric] if price.metric else Decimal(1)
        amount = quantity * Decimal(price.unit_amounts[tenant.currency])
        lines[price.price_key] = _round(amount, MINOR_UNITS[tenant.currency])
    return lines


def differences(expected: Mapping[object, object], found: Mapping[object, object]) -> list[str]:
    """Return a sentence for each key whose values differ."""
    return [
        f"{key}: expected {expected.get(key, 'nothing')}, found {found.get(key, 'nothing')}"
        for key in sorted({*expected, *found}, key=str)
        if expected.get(key) != found.get(key)
    ]


def _round(amount: Decimal, decimals: int) -> int:
    return int((amount * 10**decimals).quantize(Decimal(1), rounding=ROUND_HALF_UP))

"""Which lines a coupon or a tax is for, as it is stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.rules.coupon import Scope


def write(scope: Scope) -> dict[str, Sequence[str]]:
    """Return a scope as JSON: its lists that are not empty."""
    lists = {
        "plan_keys": list(scope.plan_keys),
        "price_keys": list(scope.price_keys),
        "metrics": list(scope.metrics),
    }
    return {name: keys for name, keys in lists.items() if keys}


def read(stored: Mapping[str, Any]) -> Scope:
    """Return the scope that was written so."""
    return Scope(**{name: tuple(keys) for name, keys in stored.items()})

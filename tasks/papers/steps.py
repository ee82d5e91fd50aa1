"""What the addends of a line say, in words: its tiers, blocks, fees, limits."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from models.rules.decimals import plain
from tasks.papers import paper

_WORDS: Final = {
    "package": "packages",
    "block": "blocks",
    "event_fee": "events",
    "event_minimum": "events at the least an event costs",
    "event_maximum": "events at the most an event costs",
    "flat_fee": "flat fee",
    "capacity": "flat fee",
    "free": "free",
    "charged": "as the events say",
    "minimum": "up to the minimum",
    "maximum": "above the maximum",
    "billed": "billed before",
}
"""What a step is called that is not the price of a tier's units."""


def in_words(step: Mapping[str, Any], currency: str) -> tuple[str, str]:
    """Return in words what a step charges for, and how much of it at which price.

    A price has the decimals of the currency at least, and all of its own.
    """
    kind = step["kind"]
    word = _WORDS.get(kind, "")
    if kind in {"package", "block"}:
        word = f"{word} of {_number(step['per'])}"
    return joined(step.get("of") or "", _tier(step), word), _how(step, currency)


def _how(step: Mapping[str, Any], currency: str) -> str:
    """How much at which price; nothing where there is no price."""
    kind, quantity = step["kind"], _number(step["quantity"])
    if "unit_amount" not in step:
        return quantity if kind == "free" else ""
    if kind == "percent":
        return f"{_number(step['unit_amount'])} % of {quantity}"
    if kind == "charged":
        return f"{_price(step['quantity'], currency)} x {_number(step['unit_amount'])}"
    price = _price(step["unit_amount"], currency)
    if kind == "units" and "per" in step:
        return f"{quantity} x {price} for each {_number(step['per'])}"
    if kind in {"flat_fee", "capacity"} and quantity == "1":
        return price
    return f"{quantity} x {price}"


def joined(*words: str) -> str:
    """Return what there is of some words, with commas between."""
    return ", ".join(filter(None, words))


def _tier(step: Mapping[str, Any]) -> str:
    above, up_to = step.get("above"), step.get("up_to")
    if above is None and up_to is None:
        return ""
    if up_to is None:
        return f"above {_number(above)}"
    return f"up to {_number(up_to)}" if above is None else f"{_number(above)} to {_number(up_to)}"


def _price(text: Any, currency: str) -> str:
    return paper.unit_price(Decimal(text), currency)


def _number(text: Any) -> str:
    return f"{Decimal(plain(Decimal(text))):,f}"

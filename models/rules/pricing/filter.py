"""Filters: events at a price of their own, by what their metadata says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.rules.pricing import checks
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.tariff import Tariff


@dataclass(frozen=True, slots=True)
class Filter:
    """Events at a price of their own: those whose metadata has one of the texts for each key."""

    match: Mapping[str, tuple[str, ...]]
    tariff: Tariff
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.match:
            must = "must name at least one key and its texts; what no filter matches has the price"
            raise InvalidPrice.of("match", {}, f"{must} without filter")
        for key, texts in self.match.items():
            checks.key(f"match.{key}", key)
            if not texts:
                raise InvalidPrice.of(f"match.{key}", [], "must be at least one text")

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an event with this metadata is among them."""
        return all(text_of(metadata.get(key)) in texts for key, texts in self.match.items())

    @property
    def name(self) -> str:
        """What people read."""
        said = (f"{key} = {' | '.join(texts)}" for key, texts in self.match.items())
        return self.label or ", ".join(said)


def text_of(value: Any) -> str | None:
    """Return a value of metadata as the database reads it as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)

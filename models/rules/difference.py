"""What differs between two JSON-like values, path by path."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMING = ("price_key", "product_key", "metric")
"""The fields that name an item of a list; what else tells items apart is in QUALIFYING."""

QUALIFYING = ("currency", "window")


@dataclass(frozen=True, slots=True)
class Changed:
    """One value that differs. None: it was not there, or is not there any more."""

    path: str
    before: Any
    after: Any


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Changed]:
    """Return what differs, by path; nothing, if the two say the same.

    An item of a list is found again by what names it, such as `prices.base EUR.unit_amount`, and
    by its place only if nothing does.
    """
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    paths = sorted(old.keys() | new.keys())
    return [
        Changed(path, old.get(path), new.get(path))
        for path in paths
        if old.get(path) != new.get(path)
    ]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str) and _has_items(value):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}.{_name(item, place)}")
    else:
        yield path, value


def _has_items(value: Sequence[Any]) -> bool:
    return any(isinstance(item, Mapping) for item in value)


def _name(item: Any, place: int) -> str:
    named = [item[key] for key in NAMING if isinstance(item, Mapping) and item.get(key)]
    if not named:
        return str(place)
    qualified = [item[key] for key in QUALIFYING if item.get(key)]
    return " ".join(str(part) for part in (named[0], *qualified))


def shown(value: Any) -> str:
    """Return a value as JSON that people read."""
    return json.dumps(value, ensure_ascii=False, default=str)

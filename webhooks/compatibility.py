"""The rule of versions: within a `schema_version` fields are added, and nothing else changes.

What was released is kept as it was; the code of today is compared with it. Anything but an addition
is the next `schema_version`, and no topic ever goes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

WORDS: Final = frozenset({"description", "title", "examples", "default"})
"""Parts of a schema that are for people. A field may be called so too; then it is an object."""


def faults(
    released: Mapping[tuple[str, int], Mapping[str, Any]],
    current: Mapping[tuple[str, int], Mapping[str, Any]],
) -> list[str]:
    """Return in words what breaks the rule; nothing when all is well.

    Args:
        released: schemas of data by topic and version, every version that ever was.
        current: the same of today, one version a topic.
    """
    return [*_gone(released, current), *_changed(released, current)]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what a receiver of `before` could not take of `after`."""
    old, new = before.get("properties", {}), after.get("properties", {})
    for name, schema in old.items():
        if name not in new:
            yield f"field {name} is gone"
        elif _meaning(new[name]) != _meaning(schema):
            yield f"field {name} was {_meaning(schema)} and is {_meaning(new[name])}"
    for name in before.get("required", []):
        if name in new and name not in after.get("required", []):
            yield f"field {name} was always there, and is not any more"
    if _meaning(before.get("$defs", {})) != _meaning(after.get("$defs", {})):
        yield "what fields refer to has changed"


def _gone(
    released: Mapping[tuple[str, int], Mapping[str, Any]],
    current: Mapping[tuple[str, int], Mapping[str, Any]],
) -> Iterator[str]:
    versions = dict(current.keys())
    for topic in sorted({topic for topic, _ in released}):
        newest = max(version for name, version in released if name == topic)
        if topic not in versions:
            yield f"{topic}: the topic is gone; it was released"
        elif not newest <= versions[topic] <= newest + 1:
            yield (
                f"{topic}: schema_version is {versions[topic]}; it must be {newest} or {newest + 1}"
            )


def _changed(
    released: Mapping[tuple[str, int], Mapping[str, Any]],
    current: Mapping[tuple[str, int], Mapping[str, Any]],
) -> Iterator[str]:
    for (topic, version), schema in sorted(current.items()):
        if (topic, version) in released:
            for change in changes(released[topic, version], schema):
                yield f"{topic}: {change}; that takes schema_version {version + 1}"


def _meaning(schema: Any) -> Any:
    """A schema without words for people."""
    if isinstance(schema, list):
        return [_meaning(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _meaning(item)
        for name, item in schema.items()
        if isinstance(item, dict) or name not in WORDS
    }

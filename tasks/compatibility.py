"""The rule of messages: whatever a released producer may send, the tasks of today take.

An argument that is new has a default; a task or an argument never goes, and takes no less than it
did. Anything else is another task, under a name of its own.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

ATLEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
ATMOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
BOUNDS: Final[tuple[tuple[tuple[str, ...], Callable[[Any, Any], bool]], ...]] = (
    (ATLEAST, operator.le),
    (ATMOST, operator.ge),
)
AS_IT_WAS: Final = ("pattern", "format", "multipleOf", "uniqueItems", "propertyNames")
"""Bounds of which nothing is known but whether they are the same."""

UNDERSTOOD: Final = frozenset(
    {
        *ATLEAST,
        *ATMOST,
        *AS_IT_WAS,
        *("type", "enum", "const", "anyOf", "oneOf", "$ref", "$defs", "discriminator"),
        *("properties", "required", "additionalProperties", "items", "prefixItems"),
        *("title", "description", "default", "examples", "deprecated", "$schema", "writeOnly"),
    }
)

DEEPEST: Final = 40
"""Levels of a schema that are compared; beyond it refers to itself."""


def faults(released: Mapping[str, Schema], current: Mapping[str, Schema]) -> list[str]:
    """Return in words what producers of a release send and the tasks of today would not take.

    Args:
        released: the schemas of one release's messages, by task.
        current: the same of today.
    """
    return [
        f"{task}: {fault}"
        for task, before in sorted(released.items())
        for fault in _of_task(before, current.get(task))
    ]


def _of_task(before: Schema, after: Schema | None) -> Iterator[str]:
    if after is None:
        yield "the task is gone; keep it, and give what replaces it another name"
        return
    kept = {}
    for name, old in before.get("properties", {}).items():
        new = after.get("properties", {}).get(name)
        if new is None:
            yield f"argument {name} is gone; take it, and do without it"
            continue
        kept[name] = old
        if old.get("default") != new.get("default") and name not in after.get("required", ()):
            yield f"argument {name} left out meant {_default(old)} and means {_default(new)}"
    yield from narrowed({**before, "properties": kept}, after)


def narrowed(before: Schema, after: Schema) -> Iterator[str]:
    """Yield in words what `before` lets pass and `after` may refuse. Doubt counts as refusal."""
    yield from _narrowed(before, after, _Place(before.get("$defs", {}), after.get("$defs", {})))


class _Place:
    """Where in a message we are, and what the two schemas refer to."""

    def __init__(self, old: Schema, new: Schema, path: str = "", depth: int = 0) -> None:
        self._old, self._new, self.path, self.depth = old, new, path, depth

    def __str__(self) -> str:
        return self.path or "the message"

    def below(self, name: str) -> "_Place":
        path = f"{self.path}.{name}" if self.path else name
        return _Place(self._old, self._new, path, self.depth + 1)

    def resolved(self, before: Schema, after: Schema) -> tuple[Schema, Schema]:
        return _resolved(before, self._old), _resolved(after, self._new)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**definitions[schema["$ref"].removeprefix("#/$defs/")], **rest}
    return schema


def _narrowed(before: Any, after: Any, at: _Place) -> Iterator[str]:
    if at.depth > DEEPEST or after is True or before is False:
        return
    if before is True or after is False:
        if not (after is not False and _takes_all(after)):
            yield f"{at} could be anything, and can not any more"
        return
    before, after = at.resolved(before, after)
    if _meaning(before) == _meaning(after) and "$ref" not in str(before):
        return
    for word in sorted((before.keys() | after.keys()) - UNDERSTOOD):
        if before.get(word) != after.get(word):
            yield f"{at}: {word} was {before.get(word)} and is {after.get(word)}"
    alternatives = before.get("anyOf") or before.get("oneOf")
    if alternatives:
        for one in alternatives:
            yield from _narrowed(one, after, at.below(""))
    elif choices := (after.get("anyOf") or after.get("oneOf")):
        yield from _among(before, choices, at)
    else:
        yield from _values(before, after, at)
        yield from _bounds(before, after, at)
        yield from _object(before, after, at)
        yield from _array(before, after, at)


def _among(before: Schema, choices: list[Any], at: _Place) -> Iterator[str]:
    """Nothing if one of the choices takes it all; else what the nearest one would refuse."""
    found = [list(_narrowed(before, one, at.below(""))) for one in choices]
    if all(found):
        yield from min(found, key=len)


def _values(before: Schema, after: Schema, at: _Place) -> Iterator[str]:
    old, new = _listed(before), _listed(after)
    if new is not None:
        gone = None if old is None else [value for value in old if value not in new]
        if gone is None or gone:
            yield f"{at} could be {'anything' if gone is None else gone}, and can not any more"
    elif old is None:
        lost = _types(before) - _types(after)
        if "type" in after and ("type" not in before or lost):
            yield f"{at} was {before.get('type', 'anything')} and is {after['type']}"


def _bounds(before: Schema, after: Schema, at: _Place) -> Iterator[str]:
    for words, is_wider in BOUNDS:
        for word in words:
            old, new = before.get(word), after.get(word)
            if new is not None and (old is None or not is_wider(new, old)):
                yield f"{at}: {word} was {old} and is {new}"
    for word in AS_IT_WAS:
        if word in after and after[word] != before.get(word):
            yield f"{at}: {word} was {before.get(word)} and is {after[word]}"


def _object(before: Schema, after: Schema, at: _Place) -> Iterator[str]:
    old, new = before.get("properties", {}), after.get("properties", {})
    for name in after.get("required", ()):
        if name not in before.get("required", ()):
            yield f"{at.below(name)} could be left out; give it a default"
    rest_before = before.get("additionalProperties", True)
    rest_after = after.get("additionalProperties", True)
    for name, schema in old.items():
        yield from _narrowed(schema, new.get(name, rest_after), at.below(name))
    for name, schema in new.items():
        if name not in old:
            yield from _narrowed(rest_before, schema, at.below(name))
    yield from _narrowed(rest_before, rest_after, at.below("*"))


def _array(before: Schema, after: Schema, at: _Place) -> Iterator[str]:
    yield from _narrowed(before.get("items", True), after.get("items", True), at.below("[]"))
    old, new = before.get("prefixItems", []), after.get("prefixItems", [])
    if len(old) != len(new):
        yield f"{at} had {len(old)} places and has {len(new)}"
    for place, (one, other) in enumerate(zip(old, new, strict=False)):
        yield from _narrowed(one, other, at.below(f"[{place}]"))


def _default(schema: Schema) -> Any:
    return schema.get("default", "nothing")


def _takes_all(schema: Schema) -> bool:
    return not _meaning(schema)


def _listed(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _types(schema: Schema) -> set[str]:
    given = schema.get("type", ())
    named = {given} if isinstance(given, str) else set(given)
    return named | ({"integer"} if "number" in named else set())


def _meaning(schema: Schema) -> dict[str, Any]:
    """A schema without words for people."""
    words = {"title", "description", "default", "examples", "deprecated", "$schema", "$defs"}
    return {name: value for name, value in schema.items() if name not in words}

"""What a field wants to have, in words, as its JSON Schema says it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]

FORMATS: Final = {
    "date-time": "an instant, such as 2026-01-31T23:59:59Z",
    "date": "a date, such as 2026-01-31",
    "uuid": "a UUID",
    "uri": "a URL",
}
TYPES: Final = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "string": "a text",
}
NUMBERS: Final = {"integer", "number"}
MOST_VALUES: Final = 12
"""Values of an enumeration that are listed; of more there is no more to say than its type."""


def at(schema: Schema, field: Sequence[int | str]) -> str | None:
    """Return what the field wants, as "a text of 1 to 64 characters"; None if that can not be said.

    Args:
        schema: of all that was given.
        field: the way to the field from the top; a place in a list by its number.
    """
    found: Schema | None = schema
    for part in field:
        found = None if found is None else _below(schema, found, part)
    return None if found is None else _said(schema, found)


def known(schema: Schema, field: Sequence[int | str]) -> list[str]:
    """Return the names that an object at this place may have; [] if that is not known."""
    found: Schema | None = schema
    for part in field:
        found = None if found is None else _below(schema, found, part)
    return [] if found is None else list(_resolved(schema, found).get("properties", ()))


def _below(root: Schema, schema: Schema, part: int | str) -> Schema | None:
    for one in _choices(root, schema):
        names = one.get("properties", {})
        below = one.get("items") if isinstance(part, int) else names.get(part)
        if isinstance(below, Mapping):
            return below
    return None


def _choices(root: Schema, schema: Schema) -> list[Schema]:
    """Return what it may be, each of several, but for nothing at all."""
    resolved = _resolved(root, schema)
    several = resolved.get("anyOf") or resolved.get("oneOf")
    if several is None:
        return [] if resolved.get("type") == "null" else [resolved]
    return [choice for one in several for choice in _choices(root, one)]


def _resolved(root: Schema, schema: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = root["$defs"][reference.rpartition("/")[2]]
    return found


def _said(root: Schema, schema: Schema) -> str | None:
    choices = _choices(root, schema)
    if any(one.get("type") in NUMBERS for one in choices):
        # A decimal may be sent as a text, too; what it must be is a number.
        choices = [one for one in choices if one.get("type") != "string"]
    kinds = [_one(one) for one in choices]
    known = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    return " or ".join(known) if known and None not in kinds else None


def _one(schema: Schema) -> str | None:
    values = schema.get("enum")
    if values is not None and len(values) <= MOST_VALUES:
        return ("one of " if len(values) > 1 else "") + ", ".join(map(str, values))
    kind = FORMATS.get(schema.get("format", "")) or TYPES.get(schema.get("type", ""))
    if kind is None:
        return None
    limits = _limits(schema)
    return f"{kind} {limits}" if limits else kind


def _limits(schema: Schema) -> str:
    if "maxLength" in schema:
        return f"of {schema.get('minLength', 0)} to {schema['maxLength']:,} characters"
    if "maximum" in schema and "minimum" in schema:
        return f"from {schema['minimum']:,} to {schema['maximum']:,}"
    if schema.get("exclusiveMinimum") == 0:
        return "above 0"
    if schema.get("minimum") == 0:
        return "of 0 or more"
    return ""

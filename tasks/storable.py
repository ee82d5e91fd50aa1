"""Metadata that producers send along: text, numbers and the like, as the database can keep it."""

import math
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic_core import PydanticCustomError

LARGEST_METADATA = 16 * 1024
"""Bytes of metadata, as JSON."""


def metadata(value: Any) -> dict[str, Any]:
    """Return a producer's own object as it is.

    Raises PydanticCustomError unless it is an object of at most 16 KiB that JSON and PostgreSQL can
    hold: text in UTF-8 without U+0000, finite numbers, integers of 64 bits.
    """
    if not isinstance(value, dict):
        raise PydanticCustomError("metadata", "must be a JSON object")
    try:
        written = orjson.dumps(value)
    except TypeError as error:
        raise PydanticCustomError("metadata", "must be JSON: {why}", {"why": str(error)}) from None
    if len(written) > LARGEST_METADATA:
        raise PydanticCustomError(
            "metadata",
            "must be at most {limit} bytes as JSON, is {size}",
            {"limit": LARGEST_METADATA, "size": len(written)},
        )
    # orjson writes NaN as null, silently, and jsonb refuses U+0000: both leave a mark, seldom seen.
    if (b"null" in written or b"\\u0000" in written) and not _is_storable(value):
        raise PydanticCustomError("metadata", "must not contain NaN, Infinity or U+0000")
    return value


def are_surely_storable(values: Sequence[Any]) -> bool:
    """Tell whether `metadata` would surely return each of these, in a tenth of its time.

    Of what holds a null it is not sure.
    """
    try:
        written = orjson.dumps(values)
    except TypeError:
        return False
    return (
        {*map(type, values)} <= {dict}
        and (
            len(written) <= LARGEST_METADATA
            or max(len(orjson.dumps(value)) for value in values) <= LARGEST_METADATA
        )
        and b"null" not in written
        and b"\\u0000" not in written
    )


def _is_storable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_storable(item) for item in value)
    if isinstance(value, str):
        return "\x00" not in value
    return not isinstance(value, float) or math.isfinite(value)

"""Places in lists that are read page by page, as text that callers hand back."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from pydantic import Field

from models.rules.refusal import Refusal

LONGEST = 2_048
"""Characters of a cursor. Ours are below half of it."""

LARGEST_INTEGER = 2**63 - 1

Cursor = Annotated[str, Field(max_length=LONGEST)]
"""`next_cursor` of the page before, with the other arguments unchanged."""

K = TypeVar("K", int, str, UUID)


class InvalidCursor(Refusal):
    """The cursor is none that this query gave out."""

    code = "cursor.invalid"


def write(query: Mapping[str, Any], place: int | str | UUID) -> str:
    """Return a place in what a query finds.

    Args:
        query: the arguments that must be the same on the next page, all but limit and cursor.
        place: the key of a page's last row.
    """
    return base64.urlsafe_b64encode(orjson.dumps([_plain(query), str(place)])).decode()


def read(cursor: str | None, query: Mapping[str, Any], kind: type[K]) -> K | None:
    """Return the place that `write` wrote for the same query; None for no cursor.

    Raises:
        InvalidCursor: it is not from this query.
    """
    if cursor is None:
        return None
    try:
        given, text = orjson.loads(base64.urlsafe_b64decode(cursor))
        if given == _plain(query) and isinstance(text, str) and text.isprintable():
            place = kind(text)
            if not isinstance(place, int) or 0 <= place <= LARGEST_INTEGER:
                return place
    except (ValueError, TypeError):
        pass  # not ours: it is refused below
    raise InvalidCursor(
        "cursor does not come from this query; give next_cursor of the page before and leave the "
        "other arguments as they were, or no cursor to begin anew",
        field="cursor",
    )


def _plain(query: Mapping[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(dict(query), default=str))

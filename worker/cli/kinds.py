"""The kinds of value that arguments and options have, as parsers of typer's.

What is of another kind is refused before anything is done or looked for: by the name of the option,
with the value and with what would be right. Limits are those of the tasks that the values go to.
"""

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError

from tasks import fields, usage_fields

LONGEST_SHOWN: Final = 80
"""Characters of a wrong value that are said again."""


def _of(kind: Any, what: str) -> Callable[[str], Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def parse(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError:
            raise _refused(text, what) from None

    return parse


def named(noun: str, *, by: str | None = None) -> Callable[[str], UUID]:
    """Return the kind of the ids of something, such as "batch".

    Args:
        by: the command that shows them, where it is not `billing NOUN list`.
    """
    article = "an" if noun[0] in "aeiou" else "a"
    what = f"the id of {article} {noun}, as `{by or f'billing {noun} list'}` shows them"

    def parse(text: str) -> UUID:
        try:
            return UUID(text)
        except ValueError:
            raise _refused(text, what) from None

    return parse


def month(text: str) -> dt.date:
    """A month, as its first day."""
    try:
        return dt.datetime.strptime(text, "%Y-%m").replace(tzinfo=dt.UTC).date()
    except ValueError:
        raise _refused(text, "a month, such as 2026-01") from None


def json_object(text: str) -> dict[str, Any]:
    """An object of JSON. Its text is not said again: it may be long, and private."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}; such as {EXAMPLE}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"must be a JSON object, such as {EXAMPLE}")
    return found


def _refused(text: str, what: str) -> typer.BadParameter:
    shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
    return typer.BadParameter(f"{shown!r} must be {what}")


EXAMPLE: Final = '{"team": "blue"}'

instant: Callable[[str], dt.datetime] = _of(
    fields.Instant, "an instant in ISO 8601, such as 2026-01-31T23:59:59Z; UTC if it names no zone"
)
day: Callable[[str], dt.date] = _of(
    fields.DayStart, "a day, such as 2026-01-31, or an instant, such as 2026-01-31T23:59:59Z"
)
amount: Callable[[str], Decimal] = _of(
    fields.Amount, "a number above 0 with at most 12 decimals, such as 12.5"
)
used_amount: Callable[[str], Decimal] = _of(
    fields.UsedAmount, "a number, 0 or more, with at most 12 decimals, such as 12.5"
)
usage: Callable[[str], str] = _of(
    usage_fields.Amount, "a number below 10^18 with at most 12 decimals, such as 12.5"
)
change: Callable[[str], Decimal] = _of(
    fields.Change, "a number above or below 0 with at most 12 decimals, such as -12.5"
)
currency: Callable[[str], str] = _of(fields.Currency, "a currency of ISO 4217, such as EUR")
timezone: Callable[[str], str] = _of(fields.Timezone, "an IANA time zone, such as Europe/Rome")

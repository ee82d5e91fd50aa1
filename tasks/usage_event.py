"""One usage event as it comes in: its fields, their limits, and what is wrong with a bad one."""

import datetime as dt
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, NotRequired, TypeAlias, cast

import pydantic
from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from models.rules import decimals
from models.rules.meter import UNMETERED, Terms
from tasks import execution, fields

TOO_MUCH: Final = 10**18
"""An amount is less than this."""

MOST_DECIMALS: Final = 12

LONGEST_NUMBER: Final = 64
"""Characters of an amount that is sent as text."""

EARLIEST: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""Before it the rules of many time zones, and so the days to bill, are not known."""

LONGEST_REASON: Final = 300
"""Characters of what is said of one fault: a fault may quote what was sent."""

NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
METADATA_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,40})?")
TOO_LITTLE: Final = "must be 0 or more: the metric's meter allows no corrections"
NO_VALUE: Final = "must be a number below 10^18: the metric's meter counts it"
PLAIN_NUMBER: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True)
class Fault:
    """An event that can not be taken.

    Args:
        index: its place in the message, from 0.
        errors: one mapping for each thing that is wrong: `field`, `reason`, short `value`s.
    """

    index: int
    errors: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Checked:
    """The good events of a message, the place of each, and the faults of the others."""

    events: "Sequence[UsageEvent]"
    places: Sequence[int]
    faults: Sequence[Fault]


def no_meters(_: Collection[str]) -> Mapping[str, Terms]:
    """The meters of a program that has none."""
    return {}


def check(
    events: Sequence[Any],
    *,
    latest: dt.datetime,
    meters: Callable[[Collection[str]], Mapping[str, Terms]] = no_meters,
) -> Checked:
    """Tell good events from bad ones; one that is bad costs only itself.

    Args:
        events: anything, also what is no event at all.
        latest: the last instant an event may have happened.
        meters: finds the meters of metrics. Asked at most once, and only if an event's amount is
            negative or its metadata may hold its value.
    """
    checked = _check_fields(events, latest)
    asking = [place for place, event in enumerate(checked.events) if _asks_its_meter(event)]
    if not asking:
        return checked
    terms = meters({checked.events[place]["metric"] for place in asking})
    return _without(checked, {place: _misfit(checked.events[place], terms) for place in asking})


def _check_fields(events: Sequence[Any], latest: dt.datetime) -> Checked:
    try:
        # Nearly always all are good: one call for the chunk.
        good = _CHUNK.validate_python(events, context=latest)
    except pydantic.ValidationError:
        return _check_each(events, latest)
    return Checked(good, range(len(good)), ())


def dated(message: dict[str, Any], at: dt.datetime) -> dict[str, Any]:
    """Return a message of usage, one event or `events`, as if it were sent at another time.

    An event that names no instant happened when it first came, which is `at`, and not whenever
    somebody sends it again.
    """
    if "as_of" in message:
        return message
    events = message.get("events")
    if not isinstance(events, list):
        return _dated(message, at)
    each = [_dated(event, at) if isinstance(event, dict) else event for event in events]
    return message | {"events": each}


def _dated(event: dict[str, Any], at: dt.datetime) -> dict[str, Any]:
    # A CloudEvent has another word for it.
    name = "time" if "specversion" in event else "at"
    return event if event.get(name) is not None else event | {name: at.isoformat()}


def _check_each(events: Sequence[Any], latest: dt.datetime) -> Checked:
    good, places, faults = [], [], []
    for place, event in enumerate(events):
        try:
            good.append(_EVENT.validate_python(event, context=latest))
            places.append(place)
        except pydantic.ValidationError as error:
            faults.append(Fault(place, [_short(fault) for fault in execution.describe(error)]))
    return Checked(good, places, faults)


def _asks_its_meter(event: "UsageEvent") -> bool:
    amount = event["amount"]
    return bool(event.get("metadata")) or (type(amount) is str and amount[0] == "-")


def _misfit(event: "UsageEvent", meters: Mapping[str, Terms]) -> dict[str, Any] | None:
    """What keeps the meter of an event from counting it, if anything does."""
    terms = meters.get(event["metric"], UNMETERED)
    if str(event["amount"]).startswith("-") and not terms.allow_corrections:
        return {"field": "amount", "reason": TOO_LITTLE}
    field = terms.definition.value_field
    metadata = event.get("metadata") or {}
    if field is None or not terms.definition.needs_number or field not in metadata:
        return None
    value = _plain_text(metadata[field])
    if not METADATA_NUMBER.fullmatch(value):
        return {"field": f"metadata.{field}", "reason": NO_VALUE}
    if value.startswith("-") and not terms.allow_corrections:
        return {"field": f"metadata.{field}", "reason": TOO_LITTLE}
    return None


def _plain_text(value: Any) -> str:
    """A value as the database reads it; what is no number stays none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    return value if isinstance(value, str) else decimals.plain(Decimal(str(value)))


def _without(checked: Checked, misfits: Mapping[int, dict[str, Any] | None]) -> Checked:
    bad = {place: error for place, error in misfits.items() if error is not None}
    kept = [place for place in range(len(checked.events)) if place not in bad]
    faults = [Fault(checked.places[place], [error]) for place, error in bad.items()]
    return Checked(
        [checked.events[place] for place in kept],
        [checked.places[place] for place in kept],
        sorted([*checked.faults, *faults], key=lambda fault: fault.index),
    )


def _short(fault: dict[str, Any]) -> dict[str, Any]:
    """A fault that can be stored and sent anywhere, whatever it quotes."""
    return {
        name: value if value is None else _ascii(value)[:LONGEST_REASON]
        for name, value in fault.items()
    }


def _ascii(value: str) -> str:
    # Only what can not be written as UTF-8: text in any script stays as it is.
    return value.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _amount(value: Any) -> int | str:
    if type(value) is int and 0 <= value < TOO_MUCH:
        return value
    if type(value) is str and PLAIN_NUMBER.fullmatch(value):
        return value
    number = _number(value)
    # Whether it may be negative is for the metric's meter to say.
    if abs(number) >= TOO_MUCH:
        raise PydanticCustomError("amount", "must be less than 10^18")
    text = decimals.plain(number)
    if len(text.partition(".")[2]) > MOST_DECIMALS:
        raise PydanticCustomError("amount", "must have at most 12 decimals; send it as a string")
    return text


def _number(value: Any) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    # A JSON number with a point comes as a binary fraction: what is meant is its shortest text.
    text = str(value) if isinstance(value, float | str | Decimal) else ""
    if len(text) > LONGEST_NUMBER or not NUMBER.fullmatch(text):
        raise PydanticCustomError(
            "amount", 'must be a finite decimal number, such as "12.5", of at most 64 characters'
        )
    return Decimal(text)


def _at(value: Any, info: ValidationInfo[dt.datetime]) -> dt.datetime | None:
    if value is None:
        return None
    at = _instant(value)
    assert info.context is not None  # noqa: S101 (`check` always gives it)
    if at > info.context:
        raise PydanticCustomError(
            "at",
            "must not be later than {latest}: an event is recorded after it has happened",
            {"latest": info.context.isoformat()},
        )
    if at < EARLIEST:
        raise PydanticCustomError("at", "must not be before 1970")
    return at


def _instant(value: Any) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
        if at.tzinfo is dt.UTC:
            return cast("dt.datetime", at)
        # A time without a zone is UTC.
        aware = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
    except (ValueError, AttributeError, OverflowError):
        raise PydanticCustomError(
            "at", "must be an instant in ISO 8601, such as 2026-01-31T23:59:59Z"
        ) from None
    return cast("dt.datetime", aware)


def _metadata(value: Any) -> dict[str, Any] | None:
    return None if value is None else fields.storable_metadata(value)


class UsageEvent(TypedDict):
    """An immutable fact that something was used."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    tenant_id: fields.TenantId
    metric: fields.Metric
    amount: "Amount"
    idempotency_key: fields.IdempotencyKey
    at: NotRequired["At"]
    metadata: NotRequired["Metadata"]


Amount: TypeAlias = Annotated[
    Decimal | int | str,
    PlainValidator(_amount),
    WithJsonSchema(
        {
            "description": "0 or more, or less if the meter allows corrections; less than 10^18, "
            "at most 12 decimals. Best sent as text.",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": -TOO_MUCH, "exclusiveMaximum": TOO_MUCH},
                {"type": "string", "pattern": f"^{NUMBER.pattern}$"},
            ],
        }
    ),
]
At: TypeAlias = Annotated[
    dt.datetime | str | None,
    PlainValidator(_at),
    WithJsonSchema(
        {
            "description": "When it happened; UTC if it names no zone. Absent: when it arrived.",
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
        }
    ),
]
Metadata: TypeAlias = Annotated[
    dict[str, Any] | None,
    PlainValidator(_metadata),
    WithJsonSchema(
        {
            "description": "The producer's own object, at most 16 KiB as JSON.",
            "anyOf": [{"type": "object"}, {"type": "null"}],
        }
    ),
]

_EVENT: Final[TypeAdapter[UsageEvent]] = TypeAdapter(UsageEvent)
_CHUNK: Final[TypeAdapter[list[UsageEvent]]] = TypeAdapter(list[UsageEvent])

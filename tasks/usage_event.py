"""Usage events as they come in: the good ones, and what is wrong with the bad ones."""

import datetime as dt
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import pydantic

from models.rules import decimals
from models.rules.meter import UNMETERED, Terms
from tasks import message_faults, usage_fields
from tasks.usage_fields import UsageEvent

METADATA_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,40})?")
TOO_LITTLE: Final = "must be 0 or more: the metric's meter allows no corrections"
NO_VALUE: Final = "must be a number below 10^18: the metric's meter counts it"

LOOKED_AT_TOGETHER: Final = 50
"""Events: one that is not as usual makes all of these be looked at one by one."""

LONGEST_REASON: Final = 300
"""Characters of what is said of one fault: a fault may quote what was sent."""


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

    events: Sequence[UsageEvent]
    places: Sequence[int]
    faults: Sequence[Fault]


def check(events: Sequence[Any], *, latest: dt.datetime) -> Checked:
    """Tell good events from bad ones by their fields alone; one that is bad costs only itself.

    Whether the meters can count what is good is for `misfits` to say.

    Args:
        events: anything, also what is no event at all.
        latest: the last instant an event may have happened.
    """
    good: list[UsageEvent] = []
    places: list[int] = []
    faults: list[Fault] = []
    for first in range(0, len(events), LOOKED_AT_TOGETHER):
        some = events[first : first + LOOKED_AT_TOGETHER]
        usual = usage_fields.find_usual(some, latest=latest)
        if usual is not None:
            good += usual
            places += range(first, first + len(some))
            continue
        for place, event in enumerate(some, first):
            try:
                good.append(usage_fields.EVENT.validate_python(event, context=latest))
                places.append(place)
            except pydantic.ValidationError as error:
                described = message_faults.describe(error, schema=usage_fields.schema())
                faults.append(Fault(place, [_short(fault) for fault in described]))
    return Checked(good, places, faults)


def misfits(
    checked: Checked, *, meters: Callable[[Collection[str]], Mapping[str, Terms]]
) -> list[Fault]:
    """Return what keeps their meters from counting good events, for those it keeps from it.

    Args:
        meters: finds the meters of metrics. Asked at most once, and only if an event's amount is
            negative or its metadata may hold its value.
    """
    asking = {event["metric"] for event in checked.events if _asks_its_meter(event)}
    if not asking:
        return []
    terms = meters(asking)
    by_value = {metric for metric, each in terms.items() if each.definition.needs_number}
    return [
        Fault(checked.places[place], [misfit])
        for place, event in enumerate(checked.events)
        if (event["metric"] in by_value or _is_negative(event))
        and (misfit := _misfit(event, terms)) is not None
    ]


def without(checked: Checked, faults: Sequence[Fault]) -> Checked:
    """Return the same with more faults, and the events that have them no more among the good."""
    bad = {fault.index for fault in faults}
    kept = [place for place, index in enumerate(checked.places) if index not in bad]
    return Checked(
        [checked.events[place] for place in kept],
        [checked.places[place] for place in kept],
        sorted([*checked.faults, *faults], key=lambda fault: fault.index),
    )


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


def _asks_its_meter(event: UsageEvent) -> bool:
    return bool(event.get("metadata")) or _is_negative(event)


def _is_negative(event: UsageEvent) -> bool:
    amount = event["amount"]
    return type(amount) is str and amount[0] == "-"


def _misfit(event: UsageEvent, meters: Mapping[str, Terms]) -> dict[str, Any] | None:
    """What keeps the meter of an event from counting it, if anything does."""
    terms = meters.get(event["metric"], UNMETERED)
    if _is_negative(event) and not terms.allow_corrections:
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


def _short(fault: dict[str, Any]) -> dict[str, Any]:
    """A fault that can be stored and sent anywhere, whatever it quotes."""
    return {
        name: value if value is None else _ascii(value)[:LONGEST_REASON]
        for name, value in fault.items()
    }


def _ascii(value: str) -> str:
    # Only what can not be written as UTF-8: text in any script stays as it is.
    return value.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")

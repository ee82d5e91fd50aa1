"""The quick look at events finds what the schema finds, or leaves it to the schema."""

from typing import Any

import pydantic
from hypothesis import given, settings

from tasks import message_faults, usage_fields
from tests.odd_events import CHUNKS, LATEST, ODD
from tests.unit import unmetered


def by_the_schema(event: Any) -> tuple[Any, list[str | None]]:
    """What the schema makes of an event, and the fields it finds fault with."""
    try:
        return usage_fields.EVENT.validate_python(event, context=LATEST), []
    except pydantic.ValidationError as error:
        return None, [fault["field"] for fault in message_faults.describe(error)]


def said(event: Any) -> dict[str, Any]:
    """What an event says; a field that is None says nothing."""
    return {name: value for name, value in event.items() if value is not None}


@settings(max_examples=200)
@given(ODD)
def test_what_the_quick_look_takes_the_schema_takes_just_so(event: Any) -> None:
    found = usage_fields.find_usual([event], latest=LATEST)

    if found is not None:
        taken, faults = by_the_schema(event)
        assert not faults
        assert said(found[0]) == said(taken)


@settings(max_examples=100)
@given(CHUNKS)
def test_a_chunk_is_checked_as_its_events_are_one_by_one(events: list[Any]) -> None:
    checked = unmetered.check(events, latest=LATEST)

    expected = [by_the_schema(event) for event in events]
    # Whether it may be negative is for the meters to say, and here are none.
    is_negative = [event is not None and str(event["amount"])[0] == "-" for event, _ in expected]
    places = [
        place for place, (_, faults) in enumerate(expected) if not faults and not is_negative[place]
    ]
    assert list(checked.places) == places
    assert [said(event) for event in checked.events] == [
        said(expected[place][0]) for place in places
    ]
    assert {
        fault.index: [error["field"] for error in fault.errors] for fault in checked.faults
    } == {
        place: faults or ["amount"]
        for place, (_, faults) in enumerate(expected)
        if faults or is_negative[place]
    }


def test_nearly_all_events_need_no_more_than_the_quick_look() -> None:
    event = {"tenant_id": "a", "metric": "m", "amount": "1.5", "idempotency_key": "k"}
    shapes: list[dict[str, Any]] = [
        {},
        {"at": "2026-05-01T10:00:00Z"},
        {"metadata": {"model": "atlas"}},
        {"at": "2026-05-01T10:00:00.123456+00:00", "metadata": {"model": "atlas", "n": 1.5}},
    ]

    for shape in shapes:
        assert usage_fields.find_usual([event | shape] * 50, latest=LATEST) is not None

"""CloudEvents become usage events, and what is wrong with one is told in its own words."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import cloud_event
from tests.unit import unmetered

LATEST = dt.datetime(2026, 5, 2, tzinfo=dt.UTC)
AT = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def cloud(**changed: Any) -> dict[str, Any]:
    plain = {
        "specversion": "1.0",
        "id": "A-1",
        "source": "/gateway/eu",
        "type": "api.call",
        "subject": "acme",
        "time": "2026-05-01T12:00:00Z",
        "datacontenttype": "application/json",
        "traceparent": "00-ab-cd-01",
        "data": {"amount": "2.5", "model": "atlas"},
    } | changed
    return {name: value for name, value in plain.items() if value is not ...}


def ours(key: str = "k1") -> dict[str, Any]:
    return {"tenant_id": "acme", "metric": "api", "amount": 1, "idempotency_key": key}


def check(*events: Any) -> Any:
    return unmetered.check(events, latest=LATEST)


def test_each_attribute_has_its_place() -> None:
    (event,) = check(cloud()).events

    assert event == {
        "tenant_id": "acme",
        "metric": "api.call",
        "amount": "2.5",
        "idempotency_key": "/gateway/eu#A-1",
        "at": AT,
        "metadata": {"model": "atlas"},
    }


def test_data_may_name_the_metric_or_be_absent() -> None:
    named, bare = check(cloud(data={"metric": "tokens"}), cloud(data=..., time=...)).events

    assert (named["metric"], named["amount"]) == ("tokens", 1)
    assert bare == {
        "tenant_id": "acme",
        "metric": "api.call",
        "amount": 1,
        "idempotency_key": "/gateway/eu#A-1",
    }


def test_both_shapes_may_be_mixed_and_keep_their_places() -> None:
    checked = check(ours("k1"), cloud(specversion="0.3"), cloud(), {"nonsense": 1}, ours("k2"))

    assert [event["idempotency_key"] for event in checked.events] == [
        "k1",
        "/gateway/eu#A-1",
        "k2",
    ]
    assert list(checked.places) == [0, 2, 4]
    assert [fault.index for fault in checked.faults] == [1, 3]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"id": ...}, "id"),
        ({"id": ""}, "id"),
        ({"source": 7}, "source"),
        ({"type": ...}, "type"),
        ({"type": "t" * 65}, "type"),
        ({"subject": ...}, "subject"),
        ({"subject": "s" * 65}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-06-01T00:00:00Z"}, "time"),
        ({"data": "text"}, "data"),
        ({"data": [1]}, "data"),
        ({"data_base64": "AA=="}, "data_base64"),
        ({"data": {"amount": -1}}, "data.amount"),
        ({"data": {"amount": None}}, "data.amount"),
        ({"data": {"metric": 7}}, "data.metric"),
        ({"data": {"note": float("nan")}}, "data"),
    ],
)
def test_what_is_wrong_is_told_by_the_producers_own_field(
    changed: dict[str, Any], field: str
) -> None:
    (fault,) = check(cloud(**changed)).faults

    assert [error["field"] for error in fault.errors] == [field]


@given(
    first=st.tuples(st.text(min_size=1, max_size=150), st.text(min_size=1, max_size=150)),
    second=st.tuples(st.text(min_size=1, max_size=150), st.text(min_size=1, max_size=150)),
)
def test_different_events_have_different_keys_that_can_be_stored(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    keys = [cloud_event.key(*first), cloud_event.key(*second)]

    assert (keys[0] == keys[1]) == (first == second)
    assert all(1 <= len(key) <= 128 and key.isprintable() for key in keys)
    assert not check(cloud(source=first[0], id=first[1])).faults


def test_a_fragment_in_the_source_can_not_be_taken_for_the_id() -> None:
    assert cloud_event.key("/a#b", "c") != cloud_event.key("/a", "b#c")

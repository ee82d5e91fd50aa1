"""One usage event: what is taken as it is, what is refused and by which name."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import usage_event
from tests.unit import unmetered

LATEST = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
GOOD: dict[str, Any] = {
    "tenant_id": "acme",
    "metric": "api_calls",
    "amount": "1.5",
    "idempotency_key": "k1",
}


def check(**changed: object) -> usage_event.Checked:
    return unmetered.check([GOOD | changed], latest=LATEST)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("amount", "stored"),
    [
        (0, "0"),
        (7, "7"),
        (10**18 - 1, "999999999999999999"),
        (0.1, "0.1"),
        (1e17, "100000000000000000"),
        (-0.0, "0"),
        ("-0", "0"),
        ("0.000000000001", "0.000000000001"),
        ("1.0000000000000000", "1"),
        ("1e3", "1000"),
        ("+5", "5"),
        (Decimal("2.50"), "2.5"),
        ("123456789012345678.123456789012", "123456789012345678.123456789012"),
    ],
)
def test_an_amount_is_any_exact_number(amount: object, stored: str) -> None:
    checked = check(amount=amount)

    assert not checked.faults
    assert str(checked.events[0]["amount"]) == stored


@pytest.mark.parametrize(
    "amount",
    [
        True,
        False,
        None,
        -1,
        "-0.000000000001",
        2**70,
        10**18,
        "1000000000000000000",
        1e18,
        float("nan"),
        float("inf"),
        "NaN",
        "Infinity",
        "0.0000000000001",
        0.1 + 0.2,
        "",
        " 5",
        "1_000",
        "1,000",
        "٣",
        "0x10",
        "1e9999",
        "9" * 65,
        [1],
        {"value": 1},
    ],
)
def test_an_amount_that_is_no_such_number_is_refused(amount: object) -> None:
    faults = check(amount=amount).faults

    assert [fault.errors[0]["field"] for fault in faults] == ["amount"]


@pytest.mark.parametrize(
    ("at", "instant"),
    [
        ("2026-05-01T10:00:00Z", dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC)),
        ("2026-05-01T10:00:00", dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC)),
        ("2026-05-01T10:00:00+05:45", dt.datetime(2026, 5, 1, 4, 15, tzinfo=dt.UTC)),
        ("2026-05-01", dt.datetime(2026, 5, 1, tzinfo=dt.UTC)),
        (dt.datetime(2026, 5, 1, 10), dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC)),  # noqa: DTZ001
        (LATEST, LATEST),
        (None, None),
    ],
)
def test_an_instant_without_a_zone_is_utc(at: object, instant: dt.datetime | None) -> None:
    checked = check(at=at)

    assert not checked.faults
    assert checked.events[0]["at"] == instant


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant_id", None),
        ("tenant_id", ""),
        ("tenant_id", 7),
        ("tenant_id", "x" * 65),
        ("tenant_id", "a\x00b"),
        ("tenant_id", "\ud800"),
        ("metric", ""),
        ("metric", " padded "),
        ("metric", "a\nb"),
        ("idempotency_key", "x" * 129),
        ("idempotency_key", ""),
        ("idempotency_key", ["k"]),
        ("at", "2026-06-01T00:00:00.000001Z"),
        ("at", "yesterday"),
        ("at", 1_700_000_000),
        ("at", "1969-12-31T23:59:59Z"),
        ("at", "0001-01-01T00:00:00+14:00"),
        ("at", "2026-02-30T00:00:00Z"),
        ("at", {}),
        ("metadata", []),
        ("metadata", "text"),
        ("metadata", {"big": "x" * 20_000}),
        ("metadata", {"nul": "a\x00b"}),
        ("metadata", {"a\x00": 1}),
        ("metadata", {"lone": "\ud800"}),
        ("metadata", {"nan": [float("nan")]}),
        ("metadata", {"huge": 2**70}),
        ("metadata", nested(600)),
        ("surprise", 1),
    ],
)
def test_a_bad_field_is_refused_by_its_name(field: str, value: object) -> None:
    faults = check(**{field: value}).faults

    assert [fault.errors[0]["field"] for fault in faults] == [field]
    assert faults[0].errors[0]["reason"]


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_field_is_refused_by_its_name(missing: str) -> None:
    event = {name: value for name, value in GOOD.items() if name != missing}

    faults = unmetered.check([event], latest=LATEST).faults

    assert [fault.errors[0]["field"] for fault in faults] == [missing]


@pytest.mark.parametrize("event", [None, 5, "text", [], ["tenant_id"], {"\ud800": 1}, float("nan")])
def test_what_is_no_event_at_all_is_refused(event: object) -> None:
    faults = unmetered.check([event], latest=LATEST).faults

    assert [fault.index for fault in faults] == [0]
    assert faults[0].errors


def test_metadata_that_only_looks_like_trouble_is_taken() -> None:
    metadata = {"none": None, "text": "a\\u0000b", "word": "null", "deep": nested(100)}

    checked = check(metadata=metadata)

    assert not checked.faults
    assert checked.events[0]["metadata"] == metadata


def test_a_long_value_is_not_quoted_at_length() -> None:
    faults = check(**{"x" * 10_000: 1}).faults

    assert all(len(str(value)) <= 300 for value in faults[0].errors[0].values())


BAD = st.sampled_from([None, 5, GOOD | {"amount": -1}, GOOD | {"at": "x"}, {"\ud800": 1}])


@given(st.lists(st.one_of(st.just(GOOD), BAD), max_size=20))
def test_a_bad_event_costs_only_itself(events: list[Any]) -> None:
    checked = unmetered.check(events, latest=LATEST)

    assert list(checked.places) == [place for place, event in enumerate(events) if event is GOOD]
    assert [fault.index for fault in checked.faults] == [
        place for place, event in enumerate(events) if event is not GOOD
    ]
    assert len(checked.events) == len(checked.places)

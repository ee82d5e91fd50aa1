"""Identifiers that sort by time."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import ids

instants = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
noise = st.integers(0, 2**62 - 1)


def test_the_example_of_the_rfc_comes_out_but_for_its_random_twelve_bits() -> None:
    now = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    made = ids.uuid7(now, random_bits=0x18C4DC0C0C07398F)
    assert made == UUID("017f22e2-79b0-7000-98c4-dc0c0c07398f")


@given(now=instants, random_bits=noise)
def test_version_variant_and_milliseconds_are_where_they_belong(
    now: datetime, random_bits: int
) -> None:
    made = ids.uuid7(now, random_bits)
    assert (made.version, made.variant) == (7, RFC_4122)
    milliseconds = timedelta(milliseconds=made.int >> 80)
    assert (
        timedelta(0)
        <= now - datetime(1970, 1, 1, tzinfo=UTC) - milliseconds
        < timedelta(milliseconds=1)
    )
    assert made.int & (2**62 - 1) == random_bits


@given(now=instants, earlier=noise, later=noise)
def test_ids_of_different_microseconds_sort_by_time(
    now: datetime, earlier: int, later: int
) -> None:
    first = ids.uuid7(now, earlier)
    second = ids.uuid7(now + timedelta(microseconds=1), later)
    assert first < second
    assert ids.event_id(first) < ids.event_id(second)


@pytest.mark.parametrize(("microseconds", "bits"), [(0, 0), (250, 1024), (500, 2048), (999, 4091)])
def test_the_fraction_of_the_millisecond_is_in_its_twelve_bits(
    microseconds: int, bits: int
) -> None:
    made = ids.uuid7(datetime(2026, 1, 1, microsecond=7000 + microseconds, tzinfo=UTC), 0)
    assert made.int >> 64 & 0xFFF == bits


def test_ids_of_one_instant_differ() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({ids.uuid7(now) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "now",
    [datetime(2026, 1, 1), datetime(1969, 12, 31, tzinfo=UTC)],  # noqa: DTZ001 - naive on purpose
)
def test_an_instant_that_does_not_fit_is_refused(now: datetime) -> None:
    with pytest.raises(ids.InstantOutOfRange, match="time zone"):
        ids.uuid7(now)


@given(identifier=st.uuids())
def test_an_event_id_survives_the_way_there_and_back(identifier: UUID) -> None:
    text = ids.event_id(identifier)
    assert len(text) == 36
    assert ids.parse_event_id(text) == identifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt_",
        "0" * 32,
        "evt_" + "0" * 31,
        "evt_" + "0" * 33,
        "evt_" + "G" * 32,
        "evt_" + "A" * 32,
        "EVT_" + "0" * 32,
        "evt_" + "0" * 32 + "\n",
        "evt_00000000-0000-0000-0000-000000000000",
    ],
)
def test_a_malformed_event_id_is_refused(text: str) -> None:
    with pytest.raises(ids.MalformedEventId, match="malformed event id"):
        ids.parse_event_id(text)

"""A change holds where it was said to, and nothing else changes."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from models.rules import timeline
from models.rules.timeline import Version

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 30
FOR_EVER = DAYS + 1

stretches = st.tuples(
    st.integers(0, DAYS - 1), st.integers(1, FOR_EVER), st.sampled_from([None, "a", "b", "c"])
).filter(lambda stretch: stretch[0] < stretch[1])


def at(day: int) -> datetime | None:
    return None if day == FOR_EVER else ORIGIN + timedelta(days=day)


def carried_out(
    versions: list[Version[str]], changes: timeline.Changes[str], made: int
) -> list[Version[str]]:
    """What is left, checked after every step as the database would."""
    left = {one.id: one for one in versions}
    for one in changes.removed:
        del left[one.id]
    for one in changes.trimmed:
        assert one.terms == left[one.id].terms
        left[one.id] = one
        assert_apart(list(left.values()))
    for number, piece in enumerate(changes.added):
        new = Version(UUID(int=made * 100 + number), piece.start, piece.end, piece.terms)
        left[new.id] = new
        assert_apart(list(left.values()))
    return list(left.values())


def assert_apart(versions: list[Version[str]]) -> None:
    ordered = sorted(versions, key=lambda one: one.start)
    for one, following in itertools.pairwise(ordered):
        assert one.end is not None
        assert one.start < one.end <= following.start


def held(versions: list[Version[str]], day: int) -> str | None:
    instant = ORIGIN + timedelta(days=day)
    found = [
        one.terms
        for one in versions
        if one.start <= instant and (one.end is None or instant < one.end)
    ]
    assert len(found) <= 1
    return found[0] if found else None


@given(st.lists(stretches, max_size=8))
def test_the_last_word_on_each_day_holds(said: list[tuple[int, int, str | None]]) -> None:
    versions: list[Version[str]] = []
    naive: list[str | None] = [None] * (DAYS + 5)
    for made, (first, after, terms) in enumerate(said, start=1):
        start = at(first)
        assert start is not None
        changes = timeline.change(versions, start=start, end=at(after), terms=terms)
        versions = carried_out(versions, changes, made)
        last = len(naive) if after == FOR_EVER else after
        naive[first:last] = [terms] * (last - first)

    assert [held(versions, day) for day in range(len(naive))] == naive


@given(st.lists(stretches, min_size=1, max_size=6))
def test_saying_it_again_changes_nothing(said: list[tuple[int, int, str | None]]) -> None:
    versions: list[Version[str]] = []
    for made, (first, after, terms) in enumerate(said, start=1):
        start = at(first)
        assert start is not None
        changes = timeline.change(versions, start=start, end=at(after), terms=terms)
        versions = carried_out(versions, changes, made)
        again = timeline.change(versions, start=start, end=at(after), terms=terms)

        assert again == timeline.Changes((), (), ()) or again == timeline.Changes([], [], [])

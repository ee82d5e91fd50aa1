"""Versions of one thing, side by side in time: what a change over a stretch of it leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

Terms = TypeVar("Terms")


@dataclass(frozen=True, slots=True)
class Version(Generic[Terms]):
    """Terms that hold from `start` until just before `end` (None: until further notice)."""

    id: UUID
    start: datetime
    end: datetime | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class Piece(Generic[Terms]):
    """A version to be made."""

    start: datetime
    end: datetime | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class Changes(Generic[Terms]):
    """What a change comes to. `trimmed` are versions that keep their terms and part of their time.

    Carried out in this order no two versions ever hold at one instant.
    """

    removed: Sequence[Version[Terms]]
    trimmed: Sequence[Version[Terms]]
    added: Sequence[Piece[Terms]]


def change(
    versions: Iterable[Version[Terms]],
    *,
    start: datetime,
    end: datetime | None,
    terms: Terms | None,
) -> Changes[Terms]:
    """Let `terms` (None: nothing) hold from `start` until `end`, whatever held then before.

    Before and after that `versions`, of which no two overlap, stay as they are. If the terms hold
    there already nothing changes. `end` is after `start`, or None.
    """
    given = list(versions)
    if any(one.terms == terms and _covers(one, start, end) for one in given):
        return Changes((), (), ())
    removed: list[Version[Terms]] = []
    trimmed: list[Version[Terms]] = []
    added: list[Piece[Terms]] = [] if terms is None else [Piece(start, end, terms)]
    for one in given:
        if not _overlaps(one, start, end):
            continue
        goes_on = end is not None and (one.end is None or end < one.end)
        if one.start < start:
            trimmed.append(Version(one.id, one.start, start, one.terms))
            if goes_on and end is not None:
                added.append(Piece(end, one.end, one.terms))
        elif goes_on and end is not None:
            trimmed.append(Version(one.id, end, one.end, one.terms))
        else:
            removed.append(one)
    return Changes(removed, trimmed, added)


def _covers(one: Version[Terms], start: datetime, end: datetime | None) -> bool:
    return one.start <= start and (one.end is None or (end is not None and end <= one.end))


def _overlaps(one: Version[Terms], start: datetime, end: datetime | None) -> bool:
    return (one.end is None or start < one.end) and (end is None or one.start < end)

"""How a replay of many goes on: through endpoints and their deliveries, then through events."""

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal, Self
from uuid import UUID

from models import database
from models.rules.refusal import Refusal
from models.rules.states import DeliveryState
from models.store import replay_missing, replaying
from models.store.endpoint import EndpointNotEnabled, UnknownEndpoint
from tasks.paging import InvalidCursor
from webhooks import events

MISSING: Final = "missing"

ENDPOINTS: Final = 200
"""Endpoints that one chunk looks at, however few of them have anything to be sent again."""

_BEFORE_ALL: Final = UUID(int=0)


class UnclearScope(Refusal):
    """It is not said to whom."""

    code = "delivery.replay_scope"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sent again, and to whom; of endpoint and tenant None is any.

    Args:
        states: of deliveries, and "missing".
        most: deliveries in one chunk.
        dry_run: only to be counted.
    """

    endpoint_id: UUID | None
    tenant_id: str | None
    states: frozenset[str]
    since: dt.datetime
    until: dt.datetime
    topic: str | None
    most: int
    dry_run: bool
    now: dt.datetime


@dataclass(frozen=True, slots=True)
class Place:
    """How far a replay has come.

    Args:
        part: first deliveries that there are, then those that are missing.
        key: an endpoint, or of the missing an event.
        after: the last delivery of that endpoint, or of the missing the last endpoint as a number.
    """

    part: Literal["there", "missing"] = "there"
    key: UUID = _BEFORE_ALL
    after: int = 0

    def write(self) -> str:
        """Return it as text."""
        return f"{self.part} {self.key} {self.after}"

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Return what `write` wrote; the beginning for None.

        Raises:
            InvalidCursor: it is no such text.
        """
        if text is None:
            return cls()
        try:
            part, key, after = text.split(" ")
            place = cls(cls._part(part), UUID(key), UUID(int=int(after)).int)
        except (KeyError, ValueError):
            raise InvalidCursor("cursor does not come from a replay", field="cursor") from None
        return place

    @staticmethod
    def _part(text: str) -> Literal["there", "missing"]:
        parts: dict[str, Literal["there", "missing"]] = {"there": "there", "missing": "missing"}
        return parts[text]


def chunk(
    session: database.Session, asked: Asked, *, place: Place
) -> tuple[dict[str, int], Place | None]:
    """Send a chunk again; return how many by what they were before, and where the next begins."""
    states = {DeliveryState(state) for state in asked.states if state != MISSING}
    if place.part == "there" and states:
        counts, following = _there(session, asked, states, place)
    elif MISSING in asked.states:
        counts, following = _missing(session, asked, place)
    else:
        return {}, None
    if following is None and place.part == "there" and states and MISSING in asked.states:
        following = Place("missing")
    return counts, following


def _there(
    session: database.Session,
    asked: Asked,
    states: set[DeliveryState],
    place: Place,
) -> tuple[dict[str, int], Place | None]:
    """Of one endpoint, the first that has any: no more than one is locked at a time."""
    looked_at = _endpoints(session, asked, place)
    for endpoint_id in looked_at:
        after = place.after if endpoint_id == place.key else 0
        wanted = replaying.Wanted(endpoint_id, states, asked.since, asked.until, asked.topic)
        found = replaying.count_some(session, wanted, after=after, most=asked.most)
        if found.last is not None and not asked.dry_run:
            found = _replayed(session, asked, wanted, after)
        if found.last is not None:
            counts = dict(Counter(state.value for state in found.by_id.values()))
            is_over = asked.endpoint_id is not None and not found.is_full
            return counts, None if is_over else Place("there", endpoint_id, found.last)
    if asked.endpoint_id is None and len(looked_at) >= ENDPOINTS:
        return {}, Place("there", looked_at[-1], replaying.LAST)
    return {}, None


def _replayed(
    session: database.Session, asked: Asked, wanted: replaying.Wanted, after: int
) -> replaying.Chosen:
    try:
        return replaying.replay_some(
            session,
            wanted,
            tenant_id=asked.tenant_id,
            after=after,
            most=asked.most,
            now=asked.now,
        )
    except (EndpointNotEnabled, UnknownEndpoint):
        return replaying.Chosen({}, None, is_full=False)  # since a moment ago


def _endpoints(session: database.Session, asked: Asked, place: Place) -> list[UUID]:
    if asked.endpoint_id is not None:
        return [asked.endpoint_id]
    following = replaying.enabled_endpoints(
        session, tenant_id=asked.tenant_id, after=place.key, most=ENDPOINTS
    )
    return [place.key, *following] if place.after not in {0, replaying.LAST} else following


def _missing(
    session: database.Session, asked: Asked, place: Place
) -> tuple[dict[str, int], Place | None]:
    wanted = replay_missing.Wanted(
        since=asked.since,
        until=asked.until,
        endpoint_id=asked.endpoint_id,
        tenant_id=asked.tenant_id,
        type=asked.topic,
        operator_topics=events.operator_topics(),
        private_topics=[events.Ping.topic],
    )
    after = replay_missing.Place(place.key, UUID(int=place.after))
    if place.part == "there":
        after = replay_missing.FIRST
    if asked.dry_run:
        found = replay_missing.count(session, wanted, after=after, most=asked.most)
    else:
        found = replay_missing.make(session, wanted, after=after, most=asked.most, now=asked.now)
    counts = {MISSING: found.found} if found.found else {}
    if found.next is None:
        return counts, None
    return counts, Place("missing", found.next.message_id, found.next.endpoint_id.int)

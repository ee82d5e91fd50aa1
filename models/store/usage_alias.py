"""Usage that is sent under the id of a tenant that became part of another one.

It is the other one's; but what was billed before the merge stayed with the old id, and is still
known there. An event that comes again must not become a second one for having another owner now.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from models.store import alias, usage_closed
from models.store.recorded import Conflict, Late, Recorded


@dataclass(slots=True)
class Known:
    """What is known of a chunk's events already; the `rest` is to be recorded, `places` say where.

    The rest names the tenants of today.
    """

    duplicates: list[int] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    rest: list[Mapping[str, Any]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def joined(self, rest: Recorded) -> Recorded:
        """Return what became of the chunk, from what became of the rest."""
        at = self.places
        conflicts = [Conflict(at[one.index], one.field) for one in rest.conflicts]
        late = [Late(at[one.index], one.closed_until) for one in rest.late]
        return Recorded(
            accepted=rest.accepted,
            duplicates=tuple(sorted([*self.duplicates, *(at[index] for index in rest.duplicates)])),
            conflicts=tuple(sorted([*self.conflicts, *conflicts], key=lambda one: one.index)),
            late=tuple(sorted([*self.late, *late], key=lambda one: one.index)),
        )


def look_back(
    session: Session,
    events: Sequence[Mapping[str, Any]],
    aliases: Mapping[str, str],
    *,
    now: dt.datetime,
) -> Known:
    """Tell which events of aliases are known under an id that their tenant had, or too late.

    Args:
        aliases: those of the tenants that are aliases, and who each stands for.
    """
    known, seen = Known(), _seen(session, events, aliases, now)
    for index, event in enumerate(events):
        verdict = seen.get(index)
        if verdict is None:
            owner = aliases.get(event["tenant_id"], event["tenant_id"])
            known.places.append(index)
            known.rest.append({**event, "tenant_id": owner})
        elif isinstance(verdict, Conflict):
            known.conflicts.append(verdict)
        elif isinstance(verdict, Late):
            known.late.append(verdict)
        else:
            known.duplicates.append(index)
    return known


def _seen(
    session: Session,
    events: Sequence[Mapping[str, Any]],
    aliases: Mapping[str, str],
    now: dt.datetime,
) -> dict[int, Conflict | Late | bool]:
    seen: dict[int, Conflict | Late | bool] = {}
    for owner in sorted(set(aliases.values())):
        places = [
            place for place, event in enumerate(events) if aliases.get(event["tenant_id"]) == owner
        ]
        for home in alias.family(session, owner)[1:]:
            asked = [{**events[place], "tenant_id": home} for place in places]
            found = usage_closed.expect(session, asked, now=now)
            for index in found.duplicates:
                seen.setdefault(places[index], True)
            for conflict in found.conflicts:
                place = places[conflict.index]
                seen.setdefault(place, Conflict(place, conflict.field))
            for late in found.late:
                place = places[late.index]
                if events[place]["tenant_id"] == home:
                    seen.setdefault(place, Late(place, late.closed_until))
    return seen

"""A chunk of usage events: looked at, stored, and a verdict for each."""

import datetime as dt
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import structlog

from models import database
from models.rules.meter import Terms
from models.store import inbox, meter, usage
from models.store.recorded import Recorded
from tasks import cloud_event, config, metrics, trying, usage_event, usage_refused

log = structlog.get_logger(__name__)

Verdict = Literal["accepted", "duplicate", "conflict", "rejected"]


class Refused(TypedDict):
    """An event that was not stored, and where it is kept until someone mends it."""

    index: int
    verdict: Literal["conflict", "rejected"]
    field: str | None
    reason: str
    rejected_message_id: int


class Doubt(TypedDict):
    """An event that would not be stored."""

    index: int
    verdict: Literal["conflict", "rejected"]
    field: str | None
    reason: str


class Preview(TypedDict):
    """What would become of the events of a message."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    refused: list[Doubt]


class UsageAnswer(TypedDict):
    """What became of each event of a message, in the order it was sent."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    verdicts: list[Verdict]
    refused: list[Refused]


@dataclass(frozen=True, slots=True)
class Looked:
    """Events as they came, when that was, and what is to be said of them without the database."""

    events: Sequence[Any]
    now: dt.datetime
    checked: usage_event.Checked


def look(events: Sequence[Any], *, now: dt.datetime) -> Looked:
    """Look at events, in either shape, before a database is needed for anything.

    Args:
        events: anything, also what is no event at all; at most some 10,000.
        now: when they arrived.
    """
    latest = now + config.current().furthest_future
    check_fields = functools.partial(usage_event.check, latest=latest)
    return Looked(events, now, cloud_event.check(events, check=check_fields))


def check(session: database.Session, looked: Looked) -> usage_event.Checked:
    """Tell good events from bad ones, also by what the meters can count."""
    return judge(looked, meters=functools.partial(meter.of_metrics, session))


def judge(
    looked: Looked, *, meters: Callable[[Collection[str]], Mapping[str, Terms]]
) -> usage_event.Checked:
    """Tell the same, with `meters` to find the meters of metrics, if any needs one."""
    faults = usage_event.misfits(looked.checked, meters=meters)
    if not faults:
        return looked.checked
    named = [cloud_event.renamed(fault, looked.events) for fault in faults]
    return usage_event.without(looked.checked, named)


def store(looked: Looked) -> UsageAnswer:
    """Record a chunk in a transaction of its own, tried again as that of a task is."""
    return trying.insist(functools.partial(record, looked=looked))


def record(session: database.Session, looked: Looked) -> UsageAnswer:
    """Store the good events of a chunk, keep the bad ones, and say what became of each."""
    checked, now = check(session, looked), looked.now
    recorded = usage.record(session, checked.events, now=now)
    bad = list(usage_refused.of_chunk(looked.events, checked, recorded, now=now))
    kept = inbox.keep_rejections(session, [rejection for _, _, rejection in bad], now=now)
    if bad:
        log.warning(
            "usage.refused",
            conflict=len(recorded.conflicts),
            rejected=len(checked.faults) + len(recorded.late),
            rejected_message_id=kept[0],
        )
    refused = [
        Refused(
            index=index,
            verdict=verdict,
            field=rejection.errors[0]["field"],
            reason=rejection.errors[0]["reason"],
            rejected_message_id=rejected_message_id,
        )
        for (index, verdict, rejection), rejected_message_id in zip(bad, kept, strict=True)
    ]
    refused.sort(key=lambda each: each["index"])
    return answer(session, checked, recorded, refused)


def preview(session: database.Session, looked: Looked) -> Preview:
    """Tell what `record` would answer, and store nothing.

    Events are held against what is stored, not against one another.
    """
    checked, now = check(session, looked), looked.now
    expected = usage.expect(session, checked.events, now=now)
    bad = list(usage_refused.of_chunk(looked.events, checked, expected, now=now))
    return {
        "accepted": expected.accepted,
        "duplicate": len(expected.duplicates),
        "conflict": len(expected.conflicts),
        "rejected": len(checked.faults) + len(expected.late),
        "refused": [
            Doubt(
                index=index,
                verdict=verdict,
                field=rejection.errors[0]["field"],
                reason=rejection.errors[0]["reason"],
            )
            for index, verdict, rejection in sorted(bad, key=lambda each: each[0])
        ],
    }


def answer(
    session: database.Session,
    checked: usage_event.Checked,
    recorded: Recorded,
    refused: list[Refused],
) -> UsageAnswer:
    """Return what became of each event, and count the verdicts once they are committed."""
    verdicts: list[Verdict] = ["accepted"] * (len(checked.places) + len(checked.faults))
    for index in recorded.duplicates:
        verdicts[checked.places[index]] = "duplicate"
    for each in refused:
        verdicts[each["index"]] = each["verdict"]
    found: UsageAnswer = {
        "accepted": recorded.accepted,
        "duplicate": len(recorded.duplicates),
        "conflict": len(recorded.conflicts),
        "rejected": len(checked.faults) + len(recorded.late),
        "verdicts": verdicts,
        "refused": refused,
    }
    # Its id: a transaction may store several chunks.
    database.after_commit(session, f"count verdicts {id(found)}", functools.partial(_count, found))
    return found


def _count(answer: UsageAnswer) -> None:
    for verdict in ("accepted", "duplicate", "conflict", "rejected"):
        metrics.USAGE_INGEST.add(answer[verdict], verdict=verdict)

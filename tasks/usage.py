"""Usage: facts that something was used, stored once each."""

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

import structlog
from pydantic import Field, SkipValidation

from models import database
from models.store import inbox, meter, usage
from models.store.recorded import Recorded
from tasks import (
    cloud_event,
    config,
    contract,
    fields,
    metrics,
    usage_event,
    usage_fields,
    usage_refused,
)
from tasks.queues import Queue

NAME = usage_refused.TASK

LARGEST_CHUNK = 10_000
"""Events of one message."""

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


@contract.command(NAME, queue=Queue.usage, once="item")
def record_usage(
    session: database.Session,
    *,
    # The body validates events, one by one if need be, so that a bad one costs only itself.
    tenant_id: SkipValidation[fields.TenantId | None] = None,
    metric: SkipValidation[fields.Metric | None] = None,
    amount: SkipValidation[usage_fields.Amount | None] = None,
    at: SkipValidation[usage_fields.At] = None,
    idempotency_key: SkipValidation[fields.IdempotencyKey | None] = None,
    metadata: SkipValidation[usage_fields.Metadata] = None,
    events: Annotated[
        list[SkipValidation[usage_fields.UsageEvent | cloud_event.CloudEvent]],
        Field(max_length=LARGEST_CHUNK),
    ]
    | None = None,
    as_of: fields.Instant = contract.NOW,
) -> UsageAnswer:
    """Store usage events, once each: one event's fields, or many of them as `events`.

    Runs when a producer sends it. Twice is harmless: an event is known by its tenant, metric and
    idempotency key, and a known one is a `duplicate`, or a `conflict` if it says something else. If
    it dies half way nothing has been stored, and the message comes back.

    Of `events` a bad one costs only itself: it is kept in rejected_messages, and the answer names
    its place, field and reason. A bad event on its own fails like any other command.

    Args:
        tenant_id: who used it, 1 to 64 characters; created with defaults if unknown.
        metric: what was used, 1 to 64 characters.
        amount: how much: less than 10^18, at most 12 decimals; 0 or more, unless the metric's
            meter allows corrections.
        at: when it happened, 1970 or later and at most an hour (a setting) ahead of our clock; UTC
            if it names no zone; when it arrived, if absent.
        idempotency_key: 1 to 128 characters, unique for the tenant and metric.
        metadata: the producer's own object, at most 16 KiB as JSON.
        events: up to 10,000 of them, each an object with these fields, or a CloudEvent 1.0:
            subject is the tenant_id, type (or data.metric) the metric, source and id the
            idempotency_key, time the at, data.amount (or 1) the amount, other data the metadata.
        as_of: when the message arrived.

    Raises:
        UsageConflict: a single event's key was used before for another event.
        UsageArchived: a single event is of a time that is closed, and not a duplicate.
    """
    fields_given = {
        "tenant_id": tenant_id,
        "metric": metric,
        "amount": amount,
        "at": at,
        "idempotency_key": idempotency_key,
        "metadata": metadata,
    }
    lone = {name: value for name, value in fields_given.items() if value is not None}
    if events is None:
        return _record_one(session, lone, now=as_of)
    if lone:
        raise _invalid([{"field": "events", "reason": f"must not be sent beside {min(lone)}"}])
    return record_chunk(session, events, now=as_of)


def preview(session: database.Session, events: Sequence[Any], *, now: dt.datetime) -> Preview:
    """Tell what `record_usage` would answer to these events, and store nothing.

    They are held against what is stored, not against one another.

    Args:
        events: anything, also what is no event at all.
        now: when they would arrive.
    """
    checked = _check(session, events, now)
    expected = usage.expect(session, checked.events, now=now)
    bad = list(usage_refused.of_chunk(events, checked, expected, now=now))
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


def _record_one(
    session: database.Session, event: dict[str, Any], *, now: dt.datetime
) -> UsageAnswer:
    checked = _check(session, [event], now)
    if checked.faults:
        raise _invalid(checked.faults[0].errors)
    recorded = usage.record(session, checked.events, now=now)
    if recorded.conflicts:
        raise usage_refused.conflicting(event, recorded.conflicts[0])
    if recorded.late:
        raise usage_refused.too_late(checked.events[0], recorded.late[0], now)
    return _counted(session, _answer(checked, recorded, []))


def record_chunk(
    session: database.Session, events: Sequence[Any], *, now: dt.datetime
) -> UsageAnswer:
    """Store the good events of a chunk, keep the bad ones, and say what became of each.

    Args:
        events: anything, in either shape; at most LARGEST_CHUNK.
        now: when they arrived.
    """
    checked = _check(session, events, now)
    recorded = usage.record(session, checked.events, now=now)
    bad = list(usage_refused.of_chunk(events, checked, recorded, now=now))
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
    return _counted(session, _answer(checked, recorded, refused))


def _check(
    session: database.Session, events: Sequence[Any], now: dt.datetime
) -> usage_event.Checked:
    check = functools.partial(
        usage_event.check,
        latest=now + config.current().furthest_future,
        meters=functools.partial(meter.of_metrics, session),
    )
    return cloud_event.check(events, check=check)


def _invalid(errors: list[dict[str, Any]]) -> contract.InvalidMessage:
    reasons = "; ".join(f"{error['field']}: {error['reason']}" for error in errors)
    return contract.InvalidMessage(f"{NAME}: {reasons}", errors=errors)


def _answer(
    checked: usage_event.Checked, recorded: Recorded, refused: list[Refused]
) -> UsageAnswer:
    verdicts: list[Verdict] = ["accepted"] * (len(checked.places) + len(checked.faults))
    for index in recorded.duplicates:
        verdicts[checked.places[index]] = "duplicate"
    for each in refused:
        verdicts[each["index"]] = each["verdict"]
    return {
        "accepted": recorded.accepted,
        "duplicate": len(recorded.duplicates),
        "conflict": len(recorded.conflicts),
        "rejected": len(checked.faults) + len(recorded.late),
        "verdicts": verdicts,
        "refused": refused,
    }


def _counted(session: database.Session, answer: UsageAnswer) -> UsageAnswer:
    """Count the verdicts once they are committed."""

    def count() -> None:
        for verdict in ("accepted", "duplicate", "conflict", "rejected"):
            metrics.USAGE_INGEST.add(answer[verdict], verdict=verdict)

    # Its id: a transaction may store several chunks.
    database.after_commit(session, f"count verdicts {id(answer)}", count)
    return answer

"""Usage: facts that something was used, stored once each."""

import datetime as dt
from typing import Annotated, Any

from pydantic import Field, SkipValidation

from models import database
from models.store import usage
from tasks import cloud_event, contract, fields, usage_chunk, usage_fields, usage_refused
from tasks.queues import Queue
from tasks.usage_chunk import UsageAnswer

NAME = usage_refused.TASK

LARGEST_CHUNK = 10_000
"""Events of one message."""


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
    return usage_chunk.record(session, usage_chunk.look(events, now=as_of))


def _record_one(
    session: database.Session, event: dict[str, Any], *, now: dt.datetime
) -> UsageAnswer:
    checked = usage_chunk.check(session, usage_chunk.look([event], now=now))
    if checked.faults:
        raise _invalid(checked.faults[0].errors)
    recorded = usage.record(session, checked.events, now=now)
    if recorded.conflicts:
        raise usage_refused.conflicting(event, recorded.conflicts[0])
    if recorded.late:
        raise usage_refused.too_late(checked.events[0], recorded.late[0], now)
    return usage_chunk.answer(session, checked, recorded, [])


def _invalid(errors: list[dict[str, Any]]) -> contract.InvalidMessage:
    reasons = "; ".join(f"{error['field']}: {error['reason']}" for error in errors)
    return contract.InvalidMessage(f"{NAME}: {reasons}", errors=errors)

"""Two tenants become one: what both have is the target's, and the source's id stands for it."""

import datetime as dt
import time
from typing import TypedDict
from uuid import UUID

import structlog

from models import database
from models.store import inbox, merge_usage, merging
from models.store.merge_conflict import MergeConflict
from models.store.merge_usage import Moved, Stray
from models.store.recorded import Conflict
from tasks import contract, fields, usage_refused
from tasks.announce import announce
from tasks.queues import Queue
from webhooks import events

TIME_BUDGET = 60.0
"""Seconds after which a run begins no further chunk: below Celery's limits; beat rings again."""

log = structlog.get_logger(__name__)


class MergeAnswer(TypedDict):
    """A merge that was done. `moved` counts rows by table; usage events follow by themselves."""

    merge_id: UUID
    target: str
    source: str
    moved: dict[str, int]
    merged_at: dt.datetime


class ConflictAnswer(TypedDict):
    """One thing that stands in the way of a merge."""

    kind: str
    reason: str


class MergePreview(TypedDict):
    """What a merge would move, by table; nothing, if anything stands in the way."""

    conflicts: list[ConflictAnswer]
    moved: dict[str, int]


class UsageMoveAnswer(TypedDict):
    """What became of usage that followed. `is_done` is false when more is to follow."""

    moved: int
    duplicates: int
    conflicts: int
    is_done: bool


@contract.command("billing.merge_customers", queue=Queue.billing, scope="source")
def merge_customers(
    session: database.Session,
    *,
    target: fields.TenantId,
    source: fields.TenantId,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract uses it)
    reason: fields.Reason | None = None,
    actor: fields.Key64 | None = None,
    as_of: fields.Instant = contract.NOW,
) -> MergeAnswer:
    """Make one tenant part of another; it can not be undone.

    Runs when a producer or an operator sends it. Identities, credit, holds, debt, subscriptions,
    endpoints, rights, coupons and keys become the target's at once; usage that is not billed yet
    follows within seconds. Invoices and the ledger of before keep the name they were made in and
    are found under the target. The source's id stands for the target from then on, in usage and in
    every command. Twice is harmless. If it dies half way nothing has changed.
    Emits billing.customers_merged.

    Refused with code `tenant.unknown`, `tenant.merge_into_itself`, `tenant.already_merged`,
    `tenant.target_is_alias`; or `tenant.merge_conflict`, which says all that stands in the way:
    both on one plan, both to be charged for one metric, invoices that are drafts or due, other
    zones.

    Args:
        target: who stays; its name, zone, currency and taxes hold.
        source: who becomes part of it.
        idempotency_key: names this request, 1 to 128 characters, unique for the source.
        reason: why, kept with the merge.
        actor: who decided.
    """
    done = merging.merge(
        session, source=source, target=target, reason=reason, actor=actor, now=as_of
    )
    event = events.CustomersMerged(
        tenant_id=target,
        target=target,
        source=source,
        merge_id=done.id,
        identities=done.moved.get("tenant_identities", 0),
        batches=done.moved.get("credit_batches", 0),
        subscriptions=done.moved.get("subscriptions", 0),
        endpoints=done.moved.get("endpoints", 0),
    )
    announce(session, event, tenant_id=target, sequence=done.version, now=as_of)
    return {
        "merge_id": done.id,
        "target": target,
        "source": source,
        "moved": done.moved,
        "merged_at": as_of,
    }


@contract.command("billing.preview_merge", queue=Queue.billing)
def preview_merge(
    session: database.Session,
    *,
    target: fields.TenantId,
    source: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> MergePreview:
    """Tell what a merge would move, or all that stands in its way.

    Runs when somebody asks. It changes nothing: the merge is done, and undone at once. Refused with
    the codes of `billing.merge_customers` but `tenant.merge_conflict`.
    """
    with database.undone(session):
        try:
            done = merging.merge(
                session, source=source, target=target, reason=None, actor=None, now=as_of
            )
        except MergeConflict as conflict:
            found = [ConflictAnswer(kind=one.kind, reason=one.reason) for one in conflict.conflicts]
            return {"conflicts": found, "moved": {}}
    return {"conflicts": [], "moved": done.moved}


@contract.job("billing.move_merged_usage", queue=Queue.usage)
def move_merged_usage(*, as_of: fields.Instant = contract.NOW) -> UsageMoveAnswer:
    """Let usage of tenants that became part of others follow them, chunk by chunk.

    Runs every few seconds, by beat. Twice, or twice at once, is harmless: a chunk is one
    transaction that remembers how far it came. If it dies the next run goes on there. An event
    whose key the target used for another one is kept as a rejected message.
    """
    answer: UsageMoveAnswer = {"moved": 0, "duplicates": 0, "conflicts": 0, "is_done": False}
    ends_at = time.monotonic() + TIME_BUDGET
    while time.monotonic() < ends_at:
        with database.transaction() as session:
            merge_id = merge_usage.next_open(session)
            if merge_id is None:
                answer["is_done"] = True
                return answer
            chunk = merge_usage.move_chunk(session, merge_id, now=as_of)
            _keep(session, chunk, as_of)
        answer["moved"] += chunk.moved
        answer["duplicates"] += chunk.duplicates
        answer["conflicts"] += len(chunk.conflicts)
    return answer


def _keep(session: database.Session, chunk: Moved, now: dt.datetime) -> None:
    kept = inbox.keep_rejections(
        session, [_rejection(chunk.target, stray) for stray in chunk.conflicts], now=now
    )
    if kept:
        log.warning(
            "tenant.usage_conflict",
            tenant_id=chunk.target,
            source=chunk.source,
            conflict=len(kept),
            rejected_message_id=kept[0],
        )


def _rejection(target: str, stray: Stray) -> inbox.Rejection:
    event = {
        "tenant_id": target,
        "metric": stray.metric,
        "amount": stray.amount,
        "at": stray.at.isoformat(),
        "idempotency_key": stray.idempotency_key,
        "metadata": stray.metadata,
    }
    refusal = usage_refused.conflicting(event, Conflict(0, stray.field))
    return inbox.Rejection(
        task=usage_refused.TASK,
        tenant_id=target,
        payload=event,
        code=refusal.code,
        errors=[{"field": refusal.field, "reason": refusal.message}],
    )

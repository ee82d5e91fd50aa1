"""Batches, read page by page or one by one."""

import dataclasses
import datetime as dt
from typing import Annotated, Any, TypedDict
from uuid import UUID

from pydantic import BeforeValidator, Field

from models import database
from models.credit import CreditBatch
from models.rules import decimals
from models.rules.states import CreditBatchState
from models.store import credit_history, tenant
from tasks import contract, fields, paging
from tasks.queues import Queue

LONGEST_PAGE = 1_000
"""Batches in one answer."""


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class BatchAnswer(TypedDict):
    """A batch. `usable` tells whether it can be spent now, holds apart."""

    batch_id: UUID
    product_key: str
    state: str
    usable: bool
    initial: str
    remaining: str
    held: str
    priority: int
    source: str
    valid_from: dt.datetime
    expires_at: dt.datetime | None
    created_at: dt.datetime
    closed_at: dt.datetime | None
    revoked_reason: str | None
    revoked_by: str | None
    metadata: dict[str, Any]


class BatchList(TypedDict):
    """One page of batches, newest first. `next_cursor` leads to older ones; None on the last."""

    tenant_id: str
    batches: list[BatchAnswer]
    next_cursor: str | None


@contract.command("billing.list_batches", queue=Queue.billing)
def list_batches(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey | None = None,
    state: Annotated[CreditBatchState, BeforeValidator(_upper)] | None = None,
    source: fields.Key64 | None = None,
    usable: bool = False,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
    as_of: fields.Instant = contract.NOW,
) -> BatchList:
    """List a tenant's batches, newest first.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. A batch that is
    made while the list is read is newer than its first page. Refused with code `tenant.unknown` or
    `cursor.invalid`.

    Args:
        tenant_id: whose batches.
        product_key: of this product only.
        state: ACTIVE, EXHAUSTED, EXPIRED or REVOKED.
        source: where they came from.
        usable: only those that can be spent at `as_of`.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: batches on one page, 1 to 1,000.
    """
    tenant.get(session, tenant_id)
    wanted = credit_history.BatchFilter(
        tenant_id=tenant_id,
        product_key=product_key,
        state=state,
        source=source,
        usable_at=as_of if usable else None,
    )
    # The instant may move on from page to page: the place stays the same.
    query = {**dataclasses.asdict(wanted), "usable_at": usable}
    before = paging.read(cursor, query, UUID)
    found = credit_history.batch_page(session, wanted, before=before, most=limit + 1)
    page = found[:limit]
    return {
        "tenant_id": tenant_id,
        "batches": [_batch(one, as_of) for one in page],
        "next_cursor": paging.write(query, page[-1].id) if len(found) > limit else None,
    }


@contract.command("billing.get_batch", queue=Queue.billing)
def get_batch(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    batch_id: UUID,
    as_of: fields.Instant = contract.NOW,
) -> BatchAnswer:
    """Tell what a batch holds and what became of it.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Refused with
    code `batch.unknown`, also if the batch is another tenant's.

    Args:
        tenant_id: whose batch.
        batch_id: which one.
    """
    return _batch(credit_history.get_batch(session, tenant_id, batch_id), as_of)


def _batch(one: CreditBatch, now: dt.datetime) -> BatchAnswer:
    in_time = one.valid_from <= now and (one.expires_at is None or now < one.expires_at)
    return {
        "batch_id": one.id,
        "product_key": one.product_key,
        "state": one.state,
        "usable": one.state == CreditBatchState.ACTIVE.value and in_time,
        "initial": decimals.plain(one.initial_amount),
        "remaining": decimals.plain(one.remaining_amount),
        "held": decimals.plain(one.held_amount),
        "priority": one.priority,
        "source": one.source,
        "valid_from": one.valid_from,
        "expires_at": one.expires_at,
        "created_at": one.created_at,
        "closed_at": one.closed_at,
        "revoked_reason": one.revoked_reason,
        "revoked_by": one.revoked_by,
        "metadata": one.details,
    }

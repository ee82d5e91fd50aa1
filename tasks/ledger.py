"""The ledger, read page by page."""

import dataclasses
import datetime as dt
from typing import Annotated, Any, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field

from models import database
from models.credit import Action, Direction, LedgerEntry
from models.rules import decimals, period
from models.store import credit_history, tenant
from tasks import contract, fields, paging
from tasks.queues import Queue

LONGEST_PAGE = 1_000
"""Entries in one answer."""


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class EntryAnswer(TypedDict):
    """One change of a balance. USE records a use that took nothing away."""

    entry_id: int
    product_key: str
    direction: str
    action: str
    amount: str
    balance_after: str
    batch_id: UUID | None
    cause_type: str
    cause_id: str
    metadata: dict[str, Any]
    created_at: dt.datetime


class Ledger(TypedDict):
    """One page of entries, newest first. `next_cursor` leads to older ones; None on the last."""

    tenant_id: str
    entries: list[EntryAnswer]
    next_cursor: str | None


@contract.command("billing.list_ledger", queue=Queue.billing)
def list_ledger(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey | None = None,
    action: Annotated[Action, BeforeValidator(_lower)] | None = None,
    direction: Annotated[Direction, BeforeValidator(_upper)] | None = None,
    batch_id: UUID | None = None,
    date_from: fields.DayStart | None = None,
    date_to: fields.DayStart | None = None,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
) -> Ledger:
    """List how a tenant's balances came to what they are, newest entry first.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Entries are
    never changed; what is written while the list is read is newer than its first page. Refused with
    code `tenant.unknown` or `cursor.invalid`.

    Args:
        tenant_id: whose ledger.
        product_key: of this product only.
        action: why: grant, consume, commit, overdraft, repay, refund, exchange, adjust, revoke,
            expire or transfer.
        direction: CREDIT, DEBIT or USE.
        batch_id: of this batch only.
        date_from: entered on this local day of the tenant (YYYY-MM-DD), or at this instant, or
            later.
        date_to: entered before this local day, or this instant.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: entries on one page, 1 to 1,000.
    """
    zone = period.zone(tenant.get(session, tenant_id).timezone)
    wanted = credit_history.LedgerFilter(
        tenant_id=tenant_id,
        product_key=product_key,
        action=action,
        direction=direction,
        batch_id=batch_id,
        since=_instant(date_from, zone),
        until=_instant(date_to, zone),
    )
    query = dataclasses.asdict(wanted)
    before = paging.read(cursor, query, int)
    found = credit_history.ledger_page(session, wanted, before=before, most=limit + 1)
    page = found[:limit]
    return {
        "tenant_id": tenant_id,
        "entries": [_entry(one) for one in page],
        "next_cursor": paging.write(query, page[-1].id) if len(found) > limit else None,
    }


def _instant(day: dt.date | dt.datetime | None, zone: ZoneInfo) -> dt.datetime | None:
    if day is None or isinstance(day, dt.datetime):
        return day
    return period.local_midnight(day, zone)


def _entry(one: LedgerEntry) -> EntryAnswer:
    return {
        "entry_id": one.id,
        "product_key": one.product_key,
        "direction": one.direction,
        "action": one.action,
        "amount": decimals.plain(one.amount),
        "balance_after": decimals.plain(one.balance_after),
        "batch_id": one.batch_id,
        "cause_type": one.cause_type,
        "cause_id": one.cause_id,
        "metadata": one.details,
        "created_at": one.created_at,
    }

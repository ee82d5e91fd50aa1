"""Orders, read one by one or page by page."""

import dataclasses
from typing import Annotated, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.rules.states import OrderState
from models.store import order
from tasks import contract, fields, ordering, paging
from tasks.ordering import OrderAnswer
from tasks.queues import Queue

LONGEST_PAGE = 500
"""Orders in one answer, each with its items."""


class OrderList(TypedDict):
    """One page of orders, newest first. `next_cursor` leads to older ones; None on the last."""

    orders: list[OrderAnswer]
    next_cursor: str | None


@contract.command("billing.get_order", queue=Queue.billing)
def get_order(session: database.Session, *, order_id: UUID) -> OrderAnswer:
    """Tell what was ordered, what it granted, and what became of it.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Refused with
    code `order.unknown`.

    Args:
        order_id: which one.
    """
    return ordering.answer(order.get(session, order_id))


@contract.command("billing.list_orders", queue=Queue.billing)
def list_orders(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    state: OrderState | None = None,
    sku: fields.Sku | None = None,
    date_from: fields.Instant | None = None,
    date_to: fields.Instant | None = None,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
) -> OrderList:
    """List orders, newest first.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. An order that is
    made while the list is read is newer than its first page. Refused with code `cursor.invalid`.

    Args:
        tenant_id: of one tenant.
        state: pending, paid, refunded or cancelled.
        sku: those with this offer among their items.
        date_from: made then or later.
        date_to: made before then.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: orders on one page, 1 to 500.
    """
    wanted = order.Filter(tenant_id=tenant_id, state=state, sku=sku, since=date_from, until=date_to)
    query = dataclasses.asdict(wanted)
    found = order.list_page(
        session, wanted, before=paging.read(cursor, query, UUID), most=limit + 1
    )
    page = found[:limit]
    return {
        "orders": [ordering.answer(one) for one in page],
        "next_cursor": paging.write(query, page[-1].id) if len(found) > limit else None,
    }

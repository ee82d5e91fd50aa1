"""How a wallet came to what it is: its ledger and its batches, newest first, page by page."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Subquery, literal, or_, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from models.catalog import Product
from models.credit import Action, CreditBalance, CreditBatch, Direction, LedgerEntry
from models.rules.refusal import Refusal
from models.rules.states import CreditBatchState
from models.store.credit import usable_at
from models.tenant import Tenant

LAST = 2**63 - 1
"""Behind every entry."""


class UnknownBatch(Refusal):
    """The tenant has no such batch."""

    code: ClassVar[str] = "batch.unknown"


@dataclass(frozen=True, slots=True)
class LedgerFilter:
    """Which entries of a tenant are meant; None is any, `since` is inside, `until` is not."""

    tenant_id: str
    product_key: str | None = None
    action: Action | None = None
    direction: Direction | None = None
    batch_id: UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


def ledger_page(
    session: Session, wanted: LedgerFilter, *, before: int | None, most: int
) -> Sequence[LedgerEntry]:
    """Return entries, newest first, at most `most` of those written before the one `before`."""
    if wanted.batch_id is not None:
        return session.scalars(_of_batch(wanted, before, most)).all()
    # As a range of the index on (tenant, product, id), not as equalities: these would let the
    # newest entries of all tenants be walked through instead, to the last if this one sleeps.
    place = tuple_(LedgerEntry.tenant_id, LedgerEntry.product_key, LedgerEntry.id)
    account = _accounts(wanted.tenant_id)
    of_product = (account.c.tenant_id, account.c.product_key)
    # The newest of each product by the index there is, then the newest of these: one index of the
    # tenant's entries more would cost every write.
    newest = (
        select(LedgerEntry)
        .where(
            place >= tuple_(*of_product, literal(0)),
            place < tuple_(*of_product, literal(LAST if before is None else before)),
            *_conditions(wanted),
        )
        .correlate(account)
        .order_by(
            LedgerEntry.tenant_id.desc(), LedgerEntry.product_key.desc(), LedgerEntry.id.desc()
        )
        .limit(most)
        .lateral("newest")
    )
    entry = aliased(LedgerEntry, newest)
    statement = (
        select(entry).select_from(account).join(newest, true()).order_by(entry.id.desc())
    ).limit(most)
    if wanted.product_key is not None:
        statement = statement.where(account.c.product_key == wanted.product_key)
    return session.scalars(statement).all()


def _accounts(tenant_id: str) -> Subquery:
    """Those with a balance; and of tenants that became part of this one, who have none any more,
    one for each product."""
    own = select(CreditBalance.tenant_id, CreditBalance.product_key).where(
        CreditBalance.tenant_id == tenant_id
    )
    merged = (
        select(Tenant.tenant_id, Product.product_key)
        .join(Product, true())
        .where(Tenant.merged_into == tenant_id)
    )
    return own.union_all(merged).subquery("account")


def _of_batch(wanted: LedgerFilter, before: int | None, most: int) -> Select[LedgerEntry]:
    """A batch has few entries: all of them by its index, then the newest that fit."""
    found = (
        select(LedgerEntry)
        .where(LedgerEntry.batch_id == wanted.batch_id)
        .cte("found")
        .prefix_with("MATERIALIZED")
    )
    entry = aliased(LedgerEntry, found)
    statement = select(entry).where(
        entry.tenant_id.in_(
            select(Tenant.tenant_id).where(
                or_(Tenant.tenant_id == wanted.tenant_id, Tenant.merged_into == wanted.tenant_id)
            )
        ),
        entry.id < (LAST if before is None else before),
        *_conditions(wanted, entry),
    )
    if wanted.product_key is not None:
        statement = statement.where(entry.product_key == wanted.product_key)
    return statement.order_by(entry.id.desc()).limit(most)


def _conditions(
    wanted: LedgerFilter, entry: type[LedgerEntry] = LedgerEntry
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.action is not None:
        conditions.append(entry.action == wanted.action.value)
    if wanted.direction is not None:
        conditions.append(entry.direction == wanted.direction.value)
    if wanted.since is not None:
        conditions.append(entry.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(entry.created_at < wanted.until)
    return conditions


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches of a tenant are meant; None is any.

    Args:
        usable_at: those that can be spent at this instant.
    """

    tenant_id: str
    product_key: str | None = None
    state: CreditBatchState | None = None
    source: str | None = None
    usable_at: dt.datetime | None = None


def batch_page(
    session: Session, wanted: BatchFilter, *, before: UUID | None, most: int
) -> Sequence[CreditBatch]:
    """Return batches, newest first, at most `most` of those before the one `before`."""
    statement = (
        select(CreditBatch)
        .where(CreditBatch.tenant_id == wanted.tenant_id)
        .order_by(CreditBatch.id.desc())
        .limit(most)
    )
    if before is not None:
        statement = statement.where(CreditBatch.id < before)
    if wanted.product_key is not None:
        statement = statement.where(CreditBatch.product_key == wanted.product_key)
    if wanted.state is not None:
        statement = statement.where(CreditBatch.state == wanted.state.value)
    if wanted.source is not None:
        statement = statement.where(CreditBatch.source == wanted.source)
    if wanted.usable_at is not None:
        statement = statement.where(usable_at(wanted.usable_at))
    return session.scalars(statement).all()


def get_batch(session: Session, tenant_id: str, batch_id: UUID) -> CreditBatch:
    """Return a batch of a tenant.

    Raises:
        UnknownBatch: the tenant has none by that id.
    """
    batch = session.get(CreditBatch, batch_id)
    if batch is None or batch.tenant_id != tenant_id:
        raise UnknownBatch(
            f"tenant {tenant_id!r} has no batch {str(batch_id)!r}; billing.list_batches shows "
            "those there are",
            field="batch_id",
        )
    return batch


def batches_of(session: Session, batch_ids: Sequence[UUID]) -> list[CreditBatch]:
    """Return batches that there are, in the order of their ids as given."""
    rows = session.scalars(select(CreditBatch).where(CreditBatch.id.in_(batch_ids)))
    found = {batch.id: batch for batch in rows}
    return [found[batch_id] for batch_id in batch_ids]

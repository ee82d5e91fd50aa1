"""What is left when a period ends: written off, or carried on into the next one."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final
from uuid import UUID

from models import database
from models.rules import allocation as rules
from models.rules import money
from models.store import allocation, credit_account, credit_expiry, product, reservation_end
from models.store.allocation import Allocation
from tasks import allotment, credit_news, granting
from tasks.allotment import Work
from tasks.announce import Announcement, announce_all
from webhooks import events

SOURCE: Final = "rollover"
"""Of the batches."""

PRIORITY: Final = -1
"""What was carried on is spent before the credit of the period itself."""


def carry_on(
    session: database.Session, work: Work, allocations: Sequence[Allocation]
) -> list[dt.datetime]:
    """Settle what is carried into periods whose predecessor is over, oldest first.

    The balances of those that wait must be locked. Return when the rest can be settled.
    """
    waits_until = []
    looked_at: list[Allocation] = []
    for one in sorted(allocations, key=lambda one: (one.days, one.product_key)):
        previous = allotment.previous(one, looked_at)
        if one.carried is not None:
            looked_at.append(one)
        elif previous is None:
            looked_at.append(_settle(session, one, Decimal(0), None))
        else:
            at = max(previous.period_end, one.period_start)
            if previous.carried is None or at > work.now:
                waits_until.append(at)
                looked_at.append(one)
            else:
                looked_at.append(_carry(session, work, previous, one))
    return waits_until


def _carry(
    session: database.Session, work: Work, previous: Allocation, one: Allocation
) -> Allocation:
    _close(session, previous, work.now)
    with money.exact():
        rest = previous.never_granted + allocation.written_off(session, previous.batch_ids)
    carried = rules.carried(work.terms(previous), rest)
    ends_at = rules.ends_at(one.days, work.subscription, work.zone)
    if carried == 0 or ends_at <= work.now or not product.get(session, one.product_key).active:
        return _settle(session, one, carried, None)
    lot = granting.Lot(one.product_key, carried, ends_at, SOURCE, priority=PRIORITY)
    return _settle(session, one, carried, allotment.grant(session, work, one, lot).granted.batch_id)


def _close(session: database.Session, previous: Allocation, now: dt.datetime) -> None:
    """End what is over and not swept yet: nobody may spend what is being counted."""
    account = credit_account.lock(
        session, tenant_id=previous.tenant_id, product_key=previous.product_key, now=now
    )
    # What a hold gives back whose time is over was left, too.
    ended = reservation_end.end_overdue(session, account, now=now) if account else []
    expired = credit_expiry.write_off(session, previous.batch_ids, now=now)
    told = [_of_expired(batch) for batch in expired if batch.amount]
    announce_all(session, [*credit_news.of_ended(ended), *told], now=now)


def _settle(
    session: database.Session, one: Allocation, carried: Decimal, batch_id: UUID | None
) -> Allocation:
    allocation.settle(session, one.id, carried=carried, batch_id=batch_id)
    return replace(one, carried=carried, carried_batch_id=batch_id)


def _of_expired(batch: credit_expiry.Expired) -> Announcement:
    event = events.CreditsExpired(
        tenant_id=batch.tenant_id,
        product_key=batch.product_key,
        batch_id=batch.batch_id,
        amount=batch.amount,
        balance=batch.balance,
        expires_at=batch.expires_at,
    )
    return Announcement(event, batch.tenant_id, batch.version)

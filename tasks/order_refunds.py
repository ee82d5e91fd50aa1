"""Taking a paid order back: what is left of its credit, and what that is worth."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from models import database
from models.rules import order as rules
from models.rules import order_refund as rules_order_refund
from models.rules.order import Grant, Line, Order
from models.rules.order_refund import Left
from models.store import credit, credit_revoking, order, order_change, order_refund
from models.store.credit_revoking import Decision, Outcome, Selector
from models.store.order_refund import Found
from tasks import batches, contract, credit_news, fields, ordering
from tasks.announce import Announcement, announce_all
from tasks.ordering import OrderAnswer
from tasks.queues import Queue
from webhooks import events


@contract.command("billing.refund_order", queue=Queue.billing, scope="order_id")
def refund_order(
    session: database.Session,
    *,
    order_id: UUID,
    reason: fields.Reason,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract's)
    actor: fields.Name = "billing.refund_order",
    as_of: fields.Instant = contract.NOW,
) -> OrderAnswer:
    """Take back what remains of a paid order's credit, and tell what of its price is refundable.

    Runs when a shop or an operator sends it. No money moves here: `refundable_minor` is what to pay
    back, item by item, for what nobody had. Of counted products that is what was taken back; of
    others, the time that is left. What had expired, what was used, what paid debt, and what a hold
    keeps is not refundable; a hold goes on, and what it gives back later is written off.

    Twice is harmless: the same key refunds once and gives the first answer again. If it dies half
    way nothing has changed, and the message comes back. Emits billing.credits_revoked for each
    batch, billing.product_deactivated (reason revoked) where nothing usable is left, and
    billing.order_refunded.

    Refused with code `order.unknown`, `order.not_paid`, `order.already_refunded` or
    `order.already_cancelled`.

    Args:
        order_id: which order.
        reason: why, 1 to 500 characters; it is kept, and not sent to subscribers.
        actor: who decided, 1 to 200 characters; neither is this.
    """
    paid = order.lock(session, order_id)
    rules.next_state(paid, "refund")
    grants = [grant for line in paid.lines for grant in line.grants]
    ended = order_refund.lock(
        session,
        tenant_id=paid.tenant_id,
        product_keys={grant.item.product_key for grant in grants},
        now=as_of,
    )
    found = order_refund.look(
        session, [one.batch_id for one in grants if one.batch_id is not None], now=as_of
    )
    outcome = _take_back(session, paid, found, reason=reason, actor=actor, now=as_of)
    lines = _settle(paid, found, as_of)
    refunded = order_change.refund(session, paid, lines, reason=reason, actor=actor, now=as_of)
    told = [
        *credit_news.of_ended(ended),
        *batches.what_revoking_tells(paid.tenant_id, outcome),
        _announcement(refunded),
    ]
    announce_all(session, told, now=as_of)
    return ordering.answer(refunded)


def _take_back(
    session: database.Session,
    paid: Order,
    found: Mapping[UUID, Found],
    *,
    reason: str,
    actor: str,
    now: dt.datetime,
) -> Outcome:
    decision = Decision(
        reason=reason,
        actor=actor,
        cause=credit.Cause("billing.refund_order", str(paid.id)),
        details={"order_id": str(paid.id)},
    )
    still_open = [batch_id for batch_id, one in found.items() if one.is_open]
    return credit_revoking.revoke(
        session, Selector(batch_ids=still_open), decision, tenant_id=paid.tenant_id, now=now
    )


def _settle(paid: Order, found: Mapping[UUID, Found], now: dt.datetime) -> list[Line]:
    """The lines with what was found of each batch, and with what is refundable of each."""
    lines = [
        replace(line, grants=tuple(_found(grant, found) for grant in line.grants))
        for line in paid.lines
    ]
    shares = [(line, [_left(grant, found) for grant in line.grants]) for line in lines]
    amounts = rules_order_refund.refundable(shares, now=now)
    return [
        replace(line, refundable_minor=amount) for line, amount in zip(lines, amounts, strict=True)
    ]


def _found(grant: Grant, found: Mapping[UUID, Found]) -> Grant:
    one = _of(grant, found)
    return replace(grant, revoked=one.free, held=one.held, lapsed=one.lapsed)


def _left(grant: Grant, found: Mapping[UUID, Found]) -> Left:
    one = _of(grant, found)
    return Left(
        granted=one.granted,
        revoked=grant.revoked or Decimal(0),
        is_counted=one.is_counted,
        valid_from=one.valid_from,
        expires_at=one.expires_at,
    )


def _of(grant: Grant, found: Mapping[UUID, Found]) -> Found:
    if grant.batch_id is None:
        raise LookupError(f"a paid order has no batch of {grant.item.product_key!r}")
    return found[grant.batch_id]


def _announcement(refunded: Order) -> Announcement:
    event = events.OrderRefunded(
        tenant_id=refunded.tenant_id,
        order_id=refunded.id,
        currency=refunded.currency,
        total_minor=refunded.total_minor,
        refundable_minor=refunded.refundable_minor or 0,
    )
    return Announcement(event, refunded.tenant_id, refunded.version)

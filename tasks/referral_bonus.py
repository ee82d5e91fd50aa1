"""The bonus of a referral: once, for the first order that who was brought has paid for."""

import datetime as dt
from typing import Literal, TypedDict
from uuid import UUID

from models import database
from models.referral import Referral
from models.store import alias, credit, credit_history, offer, referral, referral_program, tenant
from models.store.referral import Pair
from tasks import contract, fields, granting
from tasks.announce import announce
from tasks.granting import BatchGiven
from tasks.queues import Queue
from webhooks import events

Reason = Literal["no_paid_order", "paid_before_referral", "one_tenant"]

SOURCE = "referral"
"""Where the batches of a bonus come from."""


class BonusClaimed(TypedDict):
    """The bonus was given for `order_id`, at `claimed_at`: these batches to either side."""

    claimed: Literal[True]
    referral_id: UUID
    referrer_tenant_id: str
    referee_tenant_id: str
    program_key: str
    order_id: UUID
    claimed_at: dt.datetime
    referrer_batches: list[BatchGiven]
    referee_batches: list[BatchGiven]


class BonusNotClaimed(TypedDict):
    """Nothing was given: nothing was paid for yet, or for the first time before the referral, or
    the two have become one tenant."""

    claimed: Literal[False]
    referral_id: UUID
    reason: Reason


@contract.command("billing.claim_referral_bonus", queue=Queue.billing)
def claim_referral_bonus(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> BonusClaimed | BonusNotClaimed:
    """Give both sides of a referral their bonus, for the first order the referee has paid for.

    Runs when a producer sends it, say on billing.order_confirmed. That order is the first one paid
    with money and not refunded since; free ones do not count, and there is no bonus for who had
    paid before it was attached. Twice is harmless: the bonus is given once, and what was given
    comes back. If it dies half way nothing was given, and the message comes back. That there is no
    such order is an answer: `claimed` false. Emits billing.credits_granted for each batch and, to
    the referrer's endpoints, billing.referral_bonus_granted.

    Refused with code `referral.unknown` or `product.inactive`.

    Args:
        tenant_id: who was brought, the referee.
    """
    found = referral.lock(session, tenant_id)
    if found.claimed_at is not None:
        return _answer(session, found)
    referrer = alias.follow(session, found.referrer_tenant_id, hold=True)
    if referrer == tenant_id:
        return _no(found, "one_tenant")
    first_paid_at = referral.first_paid_at(session, tenant_id)
    if first_paid_at is not None and first_paid_at < found.created_at:
        return _no(found, "paid_before_referral")
    order_id = referral.lock_first_paid(session, tenant_id)
    if order_id is None:
        return _no(found, "no_paid_order")
    key = f"referral_bonus:{found.id}:order:{order_id}"
    sides = Pair(referrer=referrer, referee=tenant_id)
    given = _give(session, sides, found.program_key, key, as_of)
    claimed = referral.claim(
        session,
        found,
        order_id=order_id,
        referrer_batch_ids=given[sides.referrer],
        referee_batch_ids=given[sides.referee],
        now=as_of,
    )
    event = events.ReferralBonusGranted(
        referrer_external_id=sides.referrer,
        referee_external_id=sides.referee,
        order_id=order_id,
        idempotency_key=key,
    )
    announce(
        session,
        event,
        tenant_id=sides.referrer,
        sequence=claimed.version,
        now=as_of,
    )
    return _answer(session, claimed)


def _give(
    session: database.Session, sides: Pair, program_key: str, key: str, now: dt.datetime
) -> dict[str, list[UUID]]:
    """Grant each side its reward, in the order in which balances are locked; what it became."""
    program = referral_program.get(session, program_key)
    rewards = {sides.referrer: program.referrer_sku, sides.referee: program.referee_sku}
    return {
        tenant_id: [] if sku is None else _reward(session, tenant_id, sku, key, now)
        for tenant_id, sku in sorted(rewards.items())
    }


def _reward(
    session: database.Session, tenant_id: str, sku: str, key: str, now: dt.datetime
) -> list[UUID]:
    lots = granting.lots_of(
        offer.get(session, sku),
        quantity=1,
        timezone=tenant.get(session, tenant_id).timezone,
        source=SOURCE,
        now=now,
    )
    done = granting.grant(
        session,
        lots,
        tenant_id=tenant_id,
        cause=credit.Cause("billing.claim_referral_bonus", key),
        details={},
        now=now,
    )
    return [one.granted.batch_id for one in done]


def _no(found: Referral, reason: Reason) -> BonusNotClaimed:
    return {"claimed": False, "referral_id": found.id, "reason": reason}


def _answer(session: database.Session, found: Referral) -> BonusClaimed:
    if found.order_id is None or found.claimed_at is None:
        raise LookupError(f"referral {found.id} has brought no bonus")
    return {
        "claimed": True,
        "referral_id": found.id,
        "referrer_tenant_id": found.referrer_tenant_id,
        "referee_tenant_id": found.referee_tenant_id,
        "program_key": found.program_key,
        "order_id": found.order_id,
        "claimed_at": found.claimed_at,
        "referrer_batches": granting.given(
            credit_history.batches_of(session, found.referrer_batch_ids)
        ),
        "referee_batches": granting.given(
            credit_history.batches_of(session, found.referee_batch_ids)
        ),
    }

"""Telling tenants of operations on their credit that failed as messages, where nobody waits."""

import datetime as dt
from typing import Final

from models import database
from models.store import inbox
from models.store.inbox import Rejection
from tasks.announce import OPERATOR, announce
from webhooks import events

OPERATIONS: Final = frozenset(
    {
        "billing.add_credits",
        "billing.adjust_credits",
        "billing.allocate_subscription_credits",
        "billing.commit_reserved_credits",
        "billing.claim_referral_bonus",
        "billing.consume_quota",
        "billing.deduct_after_service",
        "billing.exchange",
        "billing.grant_credits",
        "billing.grant_offer",
        "billing.grant_trial",
        "billing.process_payment",
        "billing.refund_order",
        "billing.refund_use",
        "billing.release_reserved_credits",
        "billing.reserve_credits",
        "billing.revoke",
    }
)
"""Commands that move credit or set it aside."""

LONGEST_TENANT: Final = 64


def tell(
    session: database.Session, rejection: Rejection, rejected_message_id: int, *, now: dt.datetime
) -> None:
    """Announce a command on credit that failed and was kept, the first time it is seen.

    To whom it names, if that can be a tenant's id, and else to the operator alone.
    """
    if rejection.task not in OPERATIONS or inbox.times_seen(session, rejected_message_id) > 1:
        return
    named = rejection.tenant_id or ""
    tenant_id = named if _may_be_an_id(named) else None
    fault = rejection.errors[0] if rejection.errors else {}
    event = events.TransactionError(
        tenant_id=tenant_id,
        operation=rejection.task,
        code=rejection.code,
        field=fault.get("field"),
        reason=fault.get("reason", rejection.code),
        rejected_message_id=rejected_message_id,
    )
    announce(session, event, tenant_id=tenant_id or OPERATOR, sequence=1, now=now)


def _may_be_an_id(text: str) -> bool:
    return 0 < len(text) <= LONGEST_TENANT and text.isprintable()

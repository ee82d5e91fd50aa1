"""Events of referrals."""

from typing import Literal
from uuid import UUID

from webhooks.events.event import Event


class ReferralAttached(Event):
    """One tenant was brought by another, whose event this is."""

    topic = "billing.referral_attached"

    referral_id: UUID
    referrer_tenant_id: str
    referee_tenant_id: str
    program_key: str


class ReferralBonusGranted(Event):
    """Both sides of a referral got their bonus, for the referee's first paid order.

    External ids are the tenants' ids. The event is the referrer's.
    """

    topic = "billing.referral_bonus_granted"

    event: Literal["referral_bonus_granted"] = "referral_bonus_granted"
    referrer_external_id: str
    referee_external_id: str
    order_id: UUID
    idempotency_key: str

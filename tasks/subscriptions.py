"""Who is on which plan, from when until when."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, ClassVar, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field

from models import database
from models.rules import billing, period
from models.rules.billing import Subscription
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.store import plan, subscription, tenant, zones
from tasks import contract, fields, subscribing
from tasks.queues import Queue

LONGEST_TRIAL = 731
"""Days: two years, whatever years."""


class NoSubscriptionNamed(Refusal):
    """Which subscription to end was not said."""

    code: ClassVar[str] = "subscription.not_named"


class SeatsAnswer(TypedDict):
    """How many seats there are from an instant on."""

    effective_at: dt.datetime
    quantity: str


class SubscriptionAnswer(TypedDict):
    """A subscription. `quantity` is its seats at the instant of the answer, `seats` all there were
    and will be, oldest first. `next_invoice_at` is null when it has ended and is billed."""

    subscription_id: UUID
    tenant_id: str
    plan_key: str
    currency: str
    quantity: str
    seats: list[SeatsAnswer]
    effective_at: dt.datetime
    ended_at: dt.datetime | None
    next_invoice_at: dt.datetime | None
    auto_renew: bool
    trial_ends_at: dt.datetime | None
    follows: UUID | None


@contract.command("billing.set_subscription", queue=Queue.billing)
def set_subscription(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    plan_key: fields.PlanKey,
    currency: fields.Currency | None = None,
    quantity: fields.Amount = Decimal(1),
    effective_at: fields.Instant | None = None,
    ended_at: fields.Instant | None = None,
    auto_renew: bool = True,
    trial_days: Annotated[int, Field(ge=1, le=LONGEST_TRIAL)] | None = None,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract uses it)
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionAnswer:
    """Put a tenant on a plan.

    Runs when a producer or an operator sends it. The tenant is created if nobody has introduced
    it. A subscription that begins in the future changes nothing until then; one that has begun
    gets the plan's credit at once. Twice is harmless: the same key gets the first answer. If it
    dies half way nothing has changed.

    Args:
        tenant_id: who is billed.
        plan_key: as given to `billing.set_plan`.
        currency: ISO 4217 code of the prices to use; the tenant's when absent.
        quantity: seats; fixed fees are multiplied by it. More than 0.
        effective_at: when it begins, `as_of` when absent; the whole local day counts.
        ended_at: when it ends, open when absent; the local day of the end does not count.
        trial_days: local days from the first one on that nothing is charged for, 1 to 731.
        auto_renew: whether each period gets the plan's credit, or only the first one.
        idempotency_key: names this request, 1 to 128 characters.
        metadata: the producer's own data.
    """
    tenant.ensure(session, tenant_id, now=as_of)
    timezone = subscription.hold_tenant(session, tenant_id) or "UTC"
    zone = zones.of_tenant(session, tenant_id, timezone)
    start = effective_at or as_of
    subscribing.check_ends_after(start, ended_at)
    wanted = subscription.new(
        tenant_id=tenant_id,
        plan=plan.get(session, plan_key),
        currency=currency or tenant.get(session, tenant_id).currency,
        quantity=quantity,
        effective_at=start,
        ended_at=ended_at,
        anchored_on=period.local_day(start, zone),
        auto_renew=auto_renew,
        now=as_of,
    )
    if trial_days is not None:
        wanted = replace(wanted, trial_ends_at=_trial_end(start, trial_days, zone))
    return answer(
        subscribing.begin(session, wanted, details=metadata or {}, zone=zone, now=as_of), as_of
    )


@contract.command("billing.end_subscription", queue=Queue.billing)
def end_subscription(
    session: database.Session,
    *,
    subscription_id: UUID | None = None,
    tenant_id: fields.TenantId | None = None,
    plan_key: fields.PlanKey | None = None,
    ended_at: fields.Instant | None = None,
    idempotency_key: fields.IdempotencyKey | None = None,  # noqa: ARG001 (the contract uses it)
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionAnswer:
    """Set when a subscription ends; what it owes until then is invoiced as usual.

    Runs when a producer or an operator sends it. The plan's credit of the period in which it ends
    stays until it expires; that of later ones, granted ahead, is taken back. Twice is harmless: the
    same end again changes nothing. If it dies half way nothing has changed.

    Args:
        subscription_id: which one; or
        tenant_id, plan_key: the tenant's last subscription of the plan that began before the end.
        ended_at: when it ends, `as_of` when absent; the local day of the end does not count.
        idempotency_key: names this request, 1 to 128 characters.
    """
    end = ended_at or as_of
    found = _named(session, subscription_id, tenant_id, plan_key, end)
    timezone = subscription.hold_tenant(session, found.tenant_id) or "UTC"
    # Read again under the lock.
    found = subscription.get(session, found.id)
    if found.ended_at == end:
        return answer(found, as_of)
    zone = zones.of_tenant(session, found.tenant_id, timezone)
    return answer(subscribing.finish(session, found, end, zone, now=as_of), as_of)


def _trial_end(start: dt.datetime, days: int, zone: ZoneInfo) -> dt.datetime:
    return billing.midnight(period.local_day(start, zone) + dt.timedelta(days=days), zone)


def _named(
    session: database.Session,
    subscription_id: UUID | None,
    tenant_id: str | None,
    plan_key: str | None,
    end: dt.datetime,
) -> Subscription:
    if subscription_id is not None:
        return subscription.get(session, subscription_id)
    if tenant_id is None or plan_key is None:
        raise NoSubscriptionNamed(
            "say which subscription ends: subscription_id, or tenant_id and plan_key",
            field="subscription_id",
        )
    found = subscription.find_at(session, tenant_id=tenant_id, plan_key=plan_key, at=end)
    if found is None:
        raise subscription.UnknownSubscription(
            f"tenant {tenant_id!r} has no subscription of plan {plan_key!r} that began before "
            f"{end.isoformat()}",
            field="plan_key",
        )
    return found


def answer(one: Subscription, now: dt.datetime) -> SubscriptionAnswer:
    return {
        "subscription_id": one.id,
        "tenant_id": one.tenant_id,
        "plan_key": one.plan_key,
        "currency": one.currency,
        "quantity": plain(one.quantity_at(now)),
        "seats": [
            {"effective_at": seats.effective_at, "quantity": plain(seats.quantity)}
            for seats in (billing.Seats(one.effective_at, one.quantity), *one.seats)
        ],
        "effective_at": one.effective_at,
        "ended_at": one.ended_at,
        "next_invoice_at": one.next_invoice_at,
        "auto_renew": one.auto_renew,
        "trial_ends_at": one.trial_ends_at,
        "follows": one.follows,
    }

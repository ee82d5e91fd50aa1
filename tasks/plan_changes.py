"""Changes of what a tenant is subscribed to: another plan, cancelled, and resumed."""

import datetime as dt
from typing import ClassVar, TypedDict
from uuid import UUID

from models import database
from models.rules import billing, period
from models.rules.billing import Subscription
from models.rules.refusal import Refusal
from models.store import plan, subscription, subscription_change
from tasks import called_off, contract, fields, seats, subscribing, subscriptions
from tasks.announce import announce
from tasks.queues import Queue
from tasks.subscribing import SubscriptionOver, When
from tasks.subscriptions import SubscriptionAnswer
from webhooks import events


class NothingToChange(Refusal):
    """A change is to another plan, or to another number of seats."""

    code: ClassVar[str] = "subscription.nothing_to_change"


class ChangeAnswer(TypedDict):
    """The subscription as it goes on, and the one whose place it takes; null if only seats
    change."""

    replaced: SubscriptionAnswer | None
    subscription: SubscriptionAnswer


@contract.command("billing.change_subscription", queue=Queue.billing)
def change_subscription(
    session: database.Session,
    *,
    subscription_id: UUID,
    plan_key: fields.PlanKey | None = None,
    quantity: fields.Amount | None = None,
    when: When = When.now,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract uses it)
    as_of: fields.Instant = contract.NOW,
) -> ChangeAnswer:
    """Put a tenant on another plan, or another number of seats, now or when the period ends.

    Runs when a producer or an operator sends it. With other seats alone the subscription stays what
    it is: fees are charged for the seats of each local day, and usage as before. With another plan
    it ends, and another one takes its place from the same local day on, which belongs to the new
    one: each is charged for its days, the other's are not charged twice, and no setup fee is
    charged again. Usage is counted by the plan of its day. Periods go on as they were if both plans
    have the same interval and anchor; otherwise those of the new one begin on that day. A trial
    goes on. Another plan, or other seats, that were to come are forgotten. Twice is harmless: the
    same key gets the first answer. If it dies half way nothing has changed. Emits
    billing.subscription_set for each, and billing.subscription_upgraded for another plan.

    Refused with code `subscription.unknown`, `subscription.over`, `subscription.replaced`,
    `subscription.nothing_to_change`, `plan.unknown`, `subscription.no_price_in_currency`,
    `subscription.overlaps`, `subscription.ends_before_it_starts` or
    `subscription.period_finalized`.

    Args:
        subscription_id: which one.
        plan_key: the new plan; the same one when absent.
        quantity: seats from then on; as many as before when absent.
        when: "now", or "period_end" for the end of the billing period that holds this instant.
        idempotency_key: names this request, 1 to 128 characters.
    """
    found, zone = subscribing.hold(session, subscription_id)
    at = subscribing.instant_of(found, when, zone, as_of)
    if plan_key is not None and plan_key != found.plan_key:
        found = called_off.follower(session, found, zone, now=as_of)
    if found.ended_at is not None and found.ended_at <= at:
        raise _over(found, at)
    if plan_key is None or plan_key == found.plan_key:
        if quantity is None:
            raise _nothing(found)
        changed = seats.change(session, found, quantity, at, zone, now=as_of)
        return {"replaced": None, "subscription": subscriptions.answer(changed, as_of)}
    wanted_plan = plan.get(session, plan_key)
    ended = subscribing.finish(session, found, at, zone, now=as_of)
    fresh = subscription.new(
        tenant_id=found.tenant_id,
        plan=wanted_plan,
        currency=found.currency,
        quantity=quantity or found.quantity_at(at),
        effective_at=at,
        ended_at=found.ended_at,
        anchored_on=period.local_day(at, zone),
        auto_renew=found.auto_renew,
        now=as_of,
    )
    wanted = billing.replacement(found, fresh, at, zone)
    wanted = subscribing.begin(session, wanted, details={}, zone=zone, now=as_of)
    _announce(session, found, wanted, now=as_of)
    return {
        "replaced": subscriptions.answer(ended, as_of),
        "subscription": subscriptions.answer(wanted, as_of),
    }


@contract.command("billing.undo_change", queue=Queue.billing)
def undo_change(
    session: database.Session,
    *,
    subscription_id: UUID,
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionAnswer:
    """Take back what a subscription is to be changed to: another plan, or other seats.

    Runs when a producer or an operator sends it. The subscription goes on as if nothing had been
    said; the one that was to take its place never begins, and credit it was given ahead is taken
    back. What has come already stays, and so does an end (billing.reactivate_subscription). Twice
    is harmless: nothing is to come any more. If it dies half way nothing has changed. Emits
    billing.subscription_set for each.

    Refused with code `subscription.unknown`, `subscription.replaced` or `subscription.overlaps`.

    Args:
        subscription_id: the one that was to be changed.
    """
    found, zone = subscribing.hold(session, subscription_id)
    found = called_off.follower(session, found, zone, now=as_of)
    if found.seats and found.seats[-1].effective_at > as_of:
        found = seats.take_back(session, found, zone, now=as_of)
    return subscriptions.answer(found, as_of)


@contract.command("billing.cancel_subscription", queue=Queue.billing)
def cancel_subscription(
    session: database.Session,
    *,
    subscription_id: UUID,
    when: When = When.period_end,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract uses it)
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionAnswer:
    """End a subscription when its billing period does, or now; until then it is billed as usual.

    Runs when a producer or an operator sends it. `billing.reactivate_subscription` takes it back
    until then. Twice is harmless: the same key gets the first answer. If it dies half way nothing
    has changed. Emits billing.subscription_set.

    Refused with code `subscription.unknown`, `subscription.over`, `subscription.replaced`,
    `subscription.ends_before_it_starts` or `subscription.period_finalized`.

    Args:
        subscription_id: which one.
        when: "period_end", or "now": the local day of it is not charged for; by a plan that is
            prorated by the second, what comes after it is not.
        idempotency_key: names this request, 1 to 128 characters.
    """
    found, zone = subscribing.hold(session, subscription_id)
    at = subscribing.instant_of(found, when, zone, as_of)
    if found.ended_at is not None and found.ended_at < at:
        raise _over(found, at)
    subscribing.check_not_replaced(session, found)
    if found.ended_at == at:
        return subscriptions.answer(found, as_of)
    return subscriptions.answer(subscribing.finish(session, found, at, zone, now=as_of), as_of)


@contract.command("billing.reactivate_subscription", queue=Queue.billing)
def reactivate_subscription(
    session: database.Session,
    *,
    subscription_id: UUID,
    as_of: fields.Instant = contract.NOW,
) -> SubscriptionAnswer:
    """Take back the end of a subscription that has not ended yet.

    Runs when a producer or an operator sends it. It goes on as if it had never been cancelled: no
    day is charged twice and none is left out. Twice is harmless: it has no end already. If it dies
    half way nothing has changed. Emits billing.subscription_set.

    Refused with code `subscription.unknown`, `subscription.over` (then begin a new one with
    billing.set_subscription), `subscription.replaced` or `subscription.overlaps`.

    Args:
        subscription_id: which one.
    """
    found, zone = subscribing.hold(session, subscription_id)
    if found.ended_at is None:
        return subscriptions.answer(found, as_of)
    if found.ended_at <= as_of:
        raise _over(found, as_of)
    subscribing.check_not_replaced(session, found)
    return subscriptions.answer(subscribing.finish(session, found, None, zone, now=as_of), as_of)


def _over(found: Subscription, at: dt.datetime) -> SubscriptionOver:
    end = "" if found.ended_at is None else found.ended_at.isoformat()
    return SubscriptionOver(
        f"subscription {found.id} ends at {end}, and the change would take effect at "
        f"{at.isoformat()}; begin a new one with billing.set_subscription",
        field="subscription_id",
    )


def _nothing(found: Subscription) -> NothingToChange:
    return NothingToChange(
        f"subscription {found.id} is on plan {found.plan_key!r} already; give another plan_key, or "
        "a quantity",
        field="plan_key",
    )


def _announce(
    session: database.Session, found: Subscription, wanted: Subscription, *, now: dt.datetime
) -> None:
    event = events.SubscriptionUpgraded(
        tenant_id=wanted.tenant_id,
        subscription_id=wanted.id,
        replaced_subscription_id=found.id,
        plan_key=wanted.plan_key,
        replaced_plan_key=found.plan_key,
        effective_at=wanted.effective_at,
    )
    version = subscription_change.next_version(session, wanted.id)
    announce(session, event, tenant_id=wanted.tenant_id, sequence=version, now=now)

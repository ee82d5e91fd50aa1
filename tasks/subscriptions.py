"""Who is on which plan, from when until when."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field

from models import database
from models.rules import billing, period
from models.rules.billing import Days, Subscription
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState
from models.store import invoice, plan, price_version, subscription, tenant, zones
from tasks import allocating, contract, fields, withdrawing
from tasks.announce import announce
from tasks.queues import Queue
from webhooks import events

LONGEST_TRIAL = 731
"""Days: two years, whatever years."""


class NoPriceInCurrency(Refusal):
    """The plan has prices, but none in the subscription's currency."""

    code: ClassVar[str] = "subscription.no_price_in_currency"


class EndsBeforeItStarts(Refusal):
    """A subscription must end after it starts."""

    code: ClassVar[str] = "subscription.ends_before_it_starts"


class PeriodFinalized(Refusal):
    """The change would reach into a period whose invoice can not be edited any more."""

    code: ClassVar[str] = "subscription.period_finalized"


class SubscriptionReplaced(Refusal):
    """Another subscription takes this one's place."""

    code: ClassVar[str] = "subscription.replaced"


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
    _check_ends_after(start, ended_at)
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
    return answer(begin(session, wanted, details=metadata or {}, zone=zone, now=as_of), as_of)


def begin(
    session: database.Session,
    wanted: Subscription,
    *,
    details: dict[str, Any],
    zone: ZoneInfo,
    now: dt.datetime,
) -> Subscription:
    """Store a new subscription, say so, and give it the plan's credit; its tenant is locked.

    Returns it with when its first invoice is due.

    Raises:
        NoPriceInCurrency: nothing of the plan would ever be billed.
        SubscriptionOverlaps: the tenant is on the plan already.
        PeriodFinalized: an invoice with a number covers some of it.
    """
    check_priced(session, wanted)
    subscription.check_free(session, wanted)
    check_open(session, wanted, wanted.effective_at, wanted.ended_at)
    charged = wanted.charged_days(zone)
    wanted = look_ahead(session, wanted, charged.first if charged else None, zone)
    subscription.add(session, wanted, details=details, now=now)
    announce_set(session, wanted, version=1, now=now)
    allocating.begin(session, wanted, now=now)
    return wanted


def look_ahead(
    session: database.Session, one: Subscription, since: dt.date | None, zone: ZoneInfo
) -> Subscription:
    """Return a changed subscription with when its next invoice is due.

    Args:
        since: the first local day on which what is charged ahead may be different, if any.
    """
    if since is not None and price_version.has_ahead(session, one.plan_key, one.currency):
        due_at, first = billing.midnight(since, zone), since
        if one.fees_due_at is not None and one.fees_from is not None:
            due_at, first = min(due_at, one.fees_due_at), min(first, one.fees_from)
        one = replace(one, fees_due_at=due_at, fees_from=first)
    return replace(one, next_invoice_at=billing.due_at(one, zone))


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
    return answer(finish(session, found, end, zone, now=as_of), as_of)


def finish(
    session: database.Session,
    found: Subscription,
    end: dt.datetime | None,
    zone: ZoneInfo,
    *,
    now: dt.datetime,
) -> Subscription:
    """Set the end of a subscription, None for an open one, and say so; its tenant is locked.

    Raises:
        EndsBeforeItStarts: it would end before it starts.
        PeriodFinalized: an invoice with a number covers what would change.
        SubscriptionOverlaps: the tenant is on the plan again before it would end.
    """
    _check_ends_after(found.effective_at, end)
    changed, since = replace(found, ended_at=end), None
    subscription.check_free(session, changed)
    if end is not None or found.ended_at is not None:
        span = _between(end, found.ended_at)
        check_open(session, found, *span)
        since = period.local_day(span[0], zone)
    changed = look_ahead(session, changed, since, zone)
    version = subscription.change(session, changed, now=now)
    announce_set(session, changed, version=version, now=now)
    withdrawing.beyond_end(session, changed, now=now)
    return changed


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


def _between(
    end: dt.datetime | None, earlier_end: dt.datetime | None
) -> tuple[dt.datetime, dt.datetime | None]:
    """The time that a change of the end adds or takes away; at least one of them is an end."""
    ends = sorted(one for one in (end, earlier_end) if one is not None)
    return ends[0], ends[1] if len(ends) > 1 else None


def _check_ends_after(start: dt.datetime, end: dt.datetime | None) -> None:
    if end is not None and end <= start:
        raise EndsBeforeItStarts(
            f"ended_at {end.isoformat()} must be after effective_at {start.isoformat()}",
            field="ended_at",
        )


def check_priced(session: database.Session, wanted: Subscription) -> None:
    prices = price_version.current_prices(session, wanted.plan_key)
    currencies = sorted({price.currency for price in prices})
    if currencies and wanted.currency not in currencies:
        raise NoPriceInCurrency(
            f"plan {wanted.plan_key!r} has no price in {wanted.currency}, so nothing would ever be "
            f"billed; choose one of {', '.join(currencies)}",
            field="currency",
        )


def check_open(
    session: database.Session, one: Subscription, start: dt.datetime, end: dt.datetime | None
) -> None:
    """Refuse a change between two instants that an invoice with a number was made for."""
    for header in invoice.ending_between(session, [one.tenant_id], start=start):
        touched = billing.days_between(start, end, header.zone).overlap(header.days)
        if (
            header.state not in (InvoiceState.draft, InvoiceState.void)
            and header.currency == one.currency
            and touched
            and one.cycle.containing(header.days.first, header.zone) == header.days
        ):
            raise PeriodFinalized(
                f"invoice {header.number} of {_span(header.days)} is {header.state.value} and can "
                f"not be edited; choose an instant from {header.period.end.isoformat()} on",
                field="effective_at",
            )


def _span(days: Days) -> str:
    return f"{days.first} to {days.after - dt.timedelta(days=1)}"


def announce_set(
    session: database.Session, one: Subscription, *, version: int, now: dt.datetime
) -> None:
    event = events.SubscriptionSet(
        tenant_id=one.tenant_id,
        subscription_id=one.id,
        plan_key=one.plan_key,
        quantity=one.seats[-1].quantity if one.seats else one.quantity,
        quantity_from=one.seats[-1].effective_at if one.seats else one.effective_at,
        effective_at=one.effective_at,
        ended_at=one.ended_at,
        trial_ends_at=one.trial_ends_at,
    )
    announce(session, event, tenant_id=one.tenant_id, sequence=version, now=now)


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

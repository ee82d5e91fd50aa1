"""Rights to use a metric: what a plan includes, and what one tenant gets instead."""

import datetime as dt
from typing import ClassVar, TypedDict
from uuid import UUID

from models import database
from models.quota import Entitlement
from models.rules import decimals
from models.rules.quota import Window
from models.rules.refusal import Refusal
from models.store import entitlement, tenant
from models.store.entitlement import Key, Owner, Terms
from tasks import contract, fields
from tasks.queues import Queue


class NoOwnerNamed(Refusal):
    """Neither a plan nor a tenant was named, or both."""

    code: ClassVar[str] = "entitlement.no_owner_named"


class NoSeats(Refusal):
    """A tenant's own entitlement has no subscription whose seats it could count."""

    code: ClassVar[str] = "entitlement.no_seats"


class EndsBeforeItStarts(Refusal):
    """An entitlement must end after it starts."""

    code: ClassVar[str] = "entitlement.ends_before_it_starts"


class UnknownEntitlement(Refusal):
    """There is no such entitlement."""

    code: ClassVar[str] = "entitlement.unknown"


class EntitlementAnswer(TypedDict):
    """A right to use a metric. `limit` is null for one without limit."""

    entitlement_id: UUID
    plan_key: str | None
    tenant_id: str | None
    metric: str
    window: str
    limit: str | None
    soft: bool
    per_seat: bool
    effective_at: dt.datetime
    ended_at: dt.datetime | None


class EndedAnswer(TypedDict):
    """A right that ends, or has ended; `ended_at` is null if it never began."""

    plan_key: str | None
    tenant_id: str | None
    metric: str
    window: str
    ended_at: dt.datetime | None


@contract.command("billing.set_entitlement", queue=Queue.billing)
def set_entitlement(
    session: database.Session,
    *,
    plan_key: fields.PlanKey | None = None,
    tenant_id: fields.TenantId | None = None,
    metric: fields.Metric,
    limit: fields.UnitAmount | None,
    window: Window = Window.month,
    soft: bool = False,
    per_seat: bool = False,
    effective_at: fields.Instant | None = None,
    ended_at: fields.Instant | None = None,
    as_of: fields.Instant = contract.NOW,
) -> EntitlementAnswer:
    """Say how much of a metric may be used in a day or a month: on a plan, or by one tenant.

    Runs when an operator or a deployment sends it. From `effective_at` until `ended_at` this is
    what holds, whatever was set for that time before; earlier and later stays as it is. What was
    used so far in the window counts. Twice is harmless: the same again changes nothing. If it dies
    half way nothing has changed. The first time for a metric it waits until ingest that is under
    way has ended.

    Refused with code `entitlement.no_owner_named`, `entitlement.no_seats`,
    `entitlement.ends_before_it_starts`, `entitlement.not_summed` (the metric's meter does not add
    up amounts) or `plan.unknown`.

    Args:
        plan_key: whose right: everyone's who is on the plan; several plans' limits add up; or
        tenant_id: this tenant's, which stands in for those of plans, in windows of this length;
            created if nobody has introduced it.
        metric: what may be used, 1 to 64 characters.
        limit: how much in a window, 0 or more, at most 12 decimals; null is without limit.
        window: "day" or "month", of the calendar in the tenant's time zone.
        soft: true allows use beyond the limit and flags it; false refuses it.
        per_seat: whether the limit is for each unit of the subscription's quantity.
        effective_at: from when; `as_of` when absent or before it: what was allowed is past.
        ended_at: until when; until further notice when absent.
    """
    entitlement.watch(session, metric, now=as_of)
    key = Key(owner(plan_key, tenant_id), metric, window)
    start = max(effective_at or as_of, as_of)
    _check_ends_after(start, ended_at)
    if tenant_id is not None:
        _check_seats(tenant_id, per_seat=per_seat)
        tenant.ensure(session, tenant_id, now=as_of)
    terms = Terms(limit, soft, per_seat)
    entitlement.change(session, key, terms=terms, start=start, end=ended_at, now=as_of)
    held = next(one for one in entitlement.history(session, key) if _holds(one, start))
    return answer(held)


@contract.command("billing.end_entitlement", queue=Queue.billing)
def end_entitlement(
    session: database.Session,
    *,
    plan_key: fields.PlanKey | None = None,
    tenant_id: fields.TenantId | None = None,
    metric: fields.Metric,
    window: Window = Window.month,
    ended_at: fields.Instant | None = None,
    as_of: fields.Instant = contract.NOW,
) -> EndedAnswer:
    """Let a right end, of a plan or of one tenant; what was to begin later does not.

    Runs when an operator or a deployment sends it. A tenant whose own right ends has those of its
    plans again. Twice is harmless: what has ended stays as it is. If it dies half way nothing has
    changed.

    Refused with code `entitlement.unknown` if there never was one, and as billing.set_entitlement.

    Args:
        plan_key: of which plan; or
        tenant_id: of which tenant.
        metric: the right to what.
        window: "day" or "month".
        ended_at: when it ends; `as_of` when absent or before it.
    """
    key = Key(owner(plan_key, tenant_id), metric, window)
    start = max(ended_at or as_of, as_of)
    if not entitlement.history(session, key):
        raise UnknownEntitlement(
            f"there is no entitlement to {metric!r} by the {window.value} of {_said(key.owner)}; "
            "billing.list_entitlements lists them",
            field="metric",
        )
    entitlement.change(session, key, terms=None, start=start, end=None, now=as_of)
    left = entitlement.history(session, key)
    return {
        "plan_key": plan_key,
        "tenant_id": tenant_id,
        "metric": metric,
        "window": window.value,
        "ended_at": left[-1].ended_at if left else None,
    }


def owner(plan_key: str | None, tenant_id: str | None) -> Owner:
    """Return whose entitlement is meant.

    Raises:
        NoOwnerNamed: not exactly one of the two was given.
    """
    if (plan_key is None) == (tenant_id is None):
        raise NoOwnerNamed(
            "say whose entitlement it is: plan_key for everyone on a plan, or tenant_id for one "
            "tenant, and not both",
            field="plan_key",
        )
    return Owner(plan_key, tenant_id)


def _said(owner: Owner) -> str:
    if owner.plan_key is not None:
        return f"plan {owner.plan_key!r}"
    return f"tenant {owner.tenant_id!r}"


def _check_ends_after(start: dt.datetime, end: dt.datetime | None) -> None:
    if end is not None and end <= start:
        raise EndsBeforeItStarts(
            f"ended_at {end.isoformat()} must be after {start.isoformat()}, when it would begin",
            field="ended_at",
        )


def _check_seats(tenant_id: str, *, per_seat: bool) -> None:
    if per_seat:
        raise NoSeats(
            f"tenant {tenant_id!r} gets an entitlement of its own, which is of no subscription and "
            "so has no seats; leave per_seat out and give the whole limit",
            field="per_seat",
        )


def _holds(one: Entitlement, at: dt.datetime) -> bool:
    return one.effective_at <= at and (one.ended_at is None or at < one.ended_at)


def answer(one: Entitlement) -> EntitlementAnswer:
    """Return what is said of a stored entitlement."""
    return {
        "entitlement_id": one.id,
        "plan_key": one.plan_key,
        "tenant_id": one.tenant_id,
        "metric": one.metric,
        "window": one.window_unit,
        "limit": None if one.limit_amount is None else decimals.plain(one.limit_amount),
        "soft": one.is_soft,
        "per_seat": one.per_seat,
        "effective_at": one.effective_at,
        "ended_at": one.ended_at,
    }

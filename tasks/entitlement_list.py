"""Entitlements looked up: as they were set, and what they come to for a tenant."""

from typing import Annotated, Literal, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.rules import decimals
from models.rules.quota import Right
from models.store import entitled, entitlement, quota, tenant
from models.store.entitled import Rights
from models.store.quota import Counted
from tasks import contract, entitlements, fields
from tasks.entitlements import EntitlementAnswer
from tasks.queues import Queue
from tasks.quotas import WindowAnswer, window_answer

LARGEST_PAGE = 1_000
"""Entitlements of one answer."""


class EntitlementsAnswer(TypedDict):
    """Entitlements by id. `next_after` is the `after` of the next page, None on the last one."""

    entitlements: list[EntitlementAnswer]
    next_after: UUID | None


class SourceAnswer(TypedDict):
    """Where a limit comes from: a plan, or (null) the tenant's own entitlement."""

    plan_key: str | None
    limit: str | None


class StandingAnswer(WindowAnswer):
    """A limit in the window that runs, what was used in it, and what the limit is made of."""

    metric: str
    sources: list[SourceAnswer]


class StandingsAnswer(TypedDict):
    """What a tenant may use now, by metric and window."""

    tenant_id: str
    timezone: str
    entitlements: list[StandingAnswer]


@contract.command("billing.list_entitlements", queue=Queue.billing)
def list_entitlements(
    session: database.Session,
    *,
    plan_key: fields.PlanKey | None = None,
    tenant_id: fields.TenantId | None = None,
    metric: fields.Metric | None = None,
    show: Literal["current", "all"] = "current",
    after: UUID | None = None,
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 100,
    as_of: fields.Instant = contract.NOW,
) -> EntitlementsAnswer:
    """List entitlements as they were set, of plans and of single tenants, oldest first.

    Runs when somebody asks. It only reads: twice is harmless, and so is dying half way. What they
    come to for a tenant is told by billing.get_entitlements.

    Args:
        plan_key: only this plan's; or
        tenant_id: only this tenant's own.
        metric: only those to this metric.
        show: "current" is what holds at `as_of` or later, "all" also what is over.
        after: the id after which to begin.
        limit: how many, 1 to 1,000.
    """
    found = entitlement.listed(
        session,
        owner=entitlements.owner(plan_key, tenant_id) if plan_key or tenant_id else None,
        metric=metric,
        at=as_of if show == "current" else None,
        after=after,
        limit=limit,
    )
    return {
        "entitlements": [entitlements.answer(one) for one in found],
        "next_after": found[-1].id if len(found) == limit else None,
    }


@contract.command("billing.get_entitlements", queue=Queue.billing)
def get_entitlements(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> StandingsAnswer:
    """Tell everything a tenant may use now, and what it has used of it in the windows that run.

    Runs when somebody asks. It only reads: twice is harmless, and so is dying half way. Refused
    with code `tenant.unknown`.

    Args:
        tenant_id: whose rights.
    """
    timezone = tenant.get(session, tenant_id).timezone
    rights = entitled.find(session, [tenant_id], at=as_of).get(tenant_id)
    standings: list[StandingAnswer] = []
    if rights is not None:
        wanted = [
            span
            for metric in sorted(rights.by_metric)
            for span in quota.spans(rights, tenant_id, metric, at=as_of)
        ]
        standings = [_standing(rights, counted) for counted in quota.read(session, wanted)]
    return {"tenant_id": tenant_id, "timezone": timezone, "entitlements": standings}


def _standing(rights: Rights, counted: Counted) -> StandingAnswer:
    span = counted.span
    given = [one for one in rights.by_metric[span.metric] if one.window is span.limit.window]
    deciding = [one for one in given if one.plan_key is None] or given
    return {
        **window_answer(counted.standing),
        "metric": span.metric,
        "sources": sorted((_source(one) for one in deciding), key=_plan_key),
    }


def _source(right: Right) -> SourceAnswer:
    limit = right.whole_limit
    return {
        "plan_key": right.plan_key,
        "limit": None if limit is None else decimals.plain(limit),
    }


def _plan_key(source: SourceAnswer) -> str:
    return source["plan_key"] or ""

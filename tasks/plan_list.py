"""Plans and prices, read."""

import datetime as dt
from typing import Annotated, Literal, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.store import plan, price_version
from tasks import contract, fields, plans, price_terms
from tasks.plans import PlanAnswer
from tasks.price_terms import PriceAnswer
from tasks.queues import Queue

LARGEST_PAGE = 1_000


class PlansAnswer(TypedDict):
    """Plans with their current prices; `next_after` is None on the last page."""

    plans: list[PlanAnswer]
    next_after: str | None


class ListedPrice(PriceAnswer):
    """A version of a price: in force from `effective_at` until before `ended_at`; None: open."""

    price_id: UUID
    plan_key: str
    effective_at: dt.datetime | None
    ended_at: dt.datetime | None


class PricesAnswer(TypedDict):
    """Versions of prices; `next_after` is None on the last page."""

    prices: list[ListedPrice]
    next_after: UUID | None


@contract.command("billing.get_plan", queue=Queue.billing)
def get_plan(
    session: database.Session,
    *,
    plan_key: fields.PlanKey,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> PlanAnswer:
    """Answer with a plan and its current prices.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        plan_key: the plan's.
    """
    return plans.answer(session, plan.get(session, plan_key))


@contract.command("billing.list_plans", queue=Queue.billing)
def list_plans(
    session: database.Session,
    *,
    after: Annotated[str, Field(max_length=64)] = "",
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 100,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> PlansAnswer:
    """List plans by key, with their current prices.

    Runs when an operator asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        after: the key after which to begin.
        limit: how many, 1 to 1,000.
    """
    found = plan.listed(session, after=after, limit=limit)
    return {
        "plans": [plans.answer(session, one) for one in found],
        "next_after": found[-1].plan_key if len(found) == limit else None,
    }


@contract.command("billing.list_prices", queue=Queue.billing)
def list_prices(
    session: database.Session,
    *,
    plan_key: fields.PlanKey | None = None,
    show: Literal["current", "all"] = "current",
    after: UUID | None = None,
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 100,
    as_of: fields.Instant = contract.NOW,
) -> PricesAnswer:
    """List versions of prices, in the order in which they were set.

    Runs when an operator asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        plan_key: of one plan only.
        show: "current" lists what is in force at `as_of`; "all" also what was and what will be.
        after: the price_id after which to begin.
        limit: how many, 1 to 1,000.
        as_of: when prices must be in force.
    """
    if plan_key is not None:
        plan.get(session, plan_key)
    in_force_at = as_of if show == "current" else None
    found = price_version.listed(
        session, plan_key=plan_key, in_force_at=in_force_at, after=after, limit=limit
    )
    return {
        "prices": [
            {
                "price_id": one.id,
                "plan_key": one.plan_key,
                **price_terms.answer(one),
                "effective_at": one.effective_at,
                "ended_at": one.ended_at,
            }
            for one in found
        ],
        "next_after": found[-1].id if len(found) == limit else None,
    }

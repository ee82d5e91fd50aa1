"""What a plan costs."""

from typing import Annotated, TypedDict

from pydantic import Field

from models import database
from models.catalog import Plan
from models.rules.period import Anchor, Interval
from models.rules.proration import Proration
from models.store import plan, price_version
from tasks import contract, fields, plan_credits, price_terms
from tasks.price_terms import PriceAnswer, PriceTerms
from tasks.queues import Queue

MOST_PRICES = 200
"""Prices of one plan, all its currencies together."""


class PlanAnswer(TypedDict):
    """A plan with its current prices."""

    plan_key: str
    name: str
    interval: str
    anchor: str
    proration: str
    version: int
    prices: list[PriceAnswer]
    credits: list[plan_credits.CreditAnswer]


@contract.command("billing.set_plan", queue=Queue.billing)
def set_plan(
    session: database.Session,
    *,
    plan_key: fields.PlanKey,
    name: fields.Name,
    interval: Interval = Interval.month,
    anchor: Anchor = Anchor.calendar,
    prices: Annotated[list[PriceTerms], Field(max_length=MOST_PRICES)],
    credits: plan_credits.Credits | None = None,  # noqa: A002 (the message calls it so)
    proration: Proration = Proration.day,
    as_of: fields.Instant = contract.NOW,
) -> PlanAnswer:
    """Make a plan be what is given: create it, or change what differs.

    Runs when an operator or a deployment sends it. A price that differs ends at `as_of` and a new
    version starts there; one that is not listed any more ends; a version is never edited, so what
    was in force before is billed as it was. The local day of the change belongs to the new
    version. The first prices of a new plan apply from the beginning. Twice is harmless: the same
    plan again changes nothing. If it dies half way nothing has changed.

    Args:
        plan_key: the plan's name for programs, 1 to 64 characters.
        name: its name for people.
        interval: how long a billing period is: day, week, month, quarter or year. Fixed once the
            plan has subscriptions, as is the anchor.
        anchor: "calendar" begins periods with the calendar, "anniversary" on the day of the month
            (or week, or year) on which the subscription began.
        prices: all prices of the plan, at most 200.
        credits: the credit it gives in each period, by product, at most 50; an empty list ends what
            it gave, absent leaves it. The terms in force when a period begins decide for it.
        proration: what its fees and its commitment are shared out by where they are for a part of a
            period: "day", local days, of which the one of a change belongs to what comes after it;
            or "second", seconds of real time. Usage is always counted by local days. Fixed once the
            plan has subscriptions.
    """
    terms = price_terms.read(prices)
    is_new = plan.lay(
        session,
        plan_key,
        name=name,
        interval=interval,
        anchor=anchor,
        proration=proration,
        now=as_of,
    )
    price_version.set_prices(session, plan_key, terms, is_new=is_new, now=as_of)
    if credits is not None:
        plan_credits.change(session, plan_key, credits, is_new=is_new, now=as_of)
    return answer(session, plan.get(session, plan_key))


@contract.command("billing.set_price", queue=Queue.billing)
def set_price(
    session: database.Session,
    *,
    plan_key: fields.PlanKey,
    price: PriceTerms,
    as_of: fields.Instant = contract.NOW,
) -> PlanAnswer:
    """Make one price of a plan be what is given, from `as_of` on; the others stay as they are.

    Runs when an operator or a deployment sends it. A price that differs ends at `as_of` and a new
    version starts there, so that nothing before is rated anew; the local day of the change belongs
    to the new version. Twice is harmless: the same price again changes nothing. If it dies half way
    nothing has changed.

    Args:
        plan_key: the plan's.
        price: as in `billing.set_plan`; known by its price_key and currency.
    """
    (terms,) = price_terms.read([price])
    plan.hold(session, plan_key)
    others = [
        one
        for one in price_version.current_terms(session, plan_key)
        if (one.price_key, one.currency) != (terms.price_key, terms.currency)
    ]
    price_version.set_prices(session, plan_key, [*others, terms], is_new=False, now=as_of)
    return answer(session, plan.get(session, plan_key))


def answer(session: database.Session, laid: Plan) -> PlanAnswer:
    """Return a stored plan as tasks answer it."""
    return {
        "plan_key": laid.plan_key,
        "name": laid.name,
        "interval": laid.interval,
        "anchor": laid.anchor,
        "proration": laid.proration,
        "version": laid.version,
        "prices": [
            price_terms.answer(one) for one in price_version.current_prices(session, laid.plan_key)
        ],
        "credits": plan_credits.current(session, laid.plan_key),
    }

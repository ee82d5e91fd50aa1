"""What a plan costs."""

from collections import Counter
from decimal import Decimal
from typing import Annotated, ClassVar, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from models import database
from models.catalog import Price, PriceKind, Timing
from models.rules.decimals import plain
from models.rules.period import Anchor, Interval
from models.rules.pricing import Model
from models.rules.refusal import Refusal
from models.store import plan
from tasks import contract, fields, plan_credits
from tasks.queues import Queue

MOST_PRICES = 200
"""Prices of one plan, all its currencies together."""


class InvalidTerms(Refusal):
    """A price's terms contradict one another, or it is listed twice."""

    code: ClassVar[str] = "price.invalid"


class AdvanceNotSupported(Refusal):
    """A fixed fee can be charged in arrears only."""

    code: ClassVar[str] = "price.advance_not_supported"


class PriceTerms(BaseModel):
    """One price of a plan.

    Args:
        price_key: names the price within the plan, 1 to 64 characters.
        kind: "fixed" is a fee a period for each unit of the subscription's quantity (seats);
            "usage" is what was used of `metric`.
        metric: for usage, and only for it.
        model: how the quantity becomes an amount: "fixed" or "per_unit" for a fee (the same: unit
            amount times seats), "per_unit" for usage. By kind when absent.
        unit_amount: in major units of the currency, 0 or more, at most 12 decimals; as a string.
        currency: ISO 4217.
        timing: when a fee is charged: "arrears", after its period.
        description: what the invoice says; the price key when absent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    price_key: fields.PriceKey
    kind: PriceKind
    metric: fields.Metric | None = None
    model: Model | None = None
    unit_amount: fields.UnitAmount
    currency: fields.Currency
    timing: Timing = Timing.arrears
    description: fields.Name | None = None


class PriceAnswer(TypedDict):
    """A price as it is from now on."""

    price_key: str
    kind: str
    metric: str | None
    model: str
    unit_amount: str
    currency: str
    timing: str
    description: str | None


class PlanAnswer(TypedDict):
    """A plan with its current prices."""

    plan_key: str
    name: str
    interval: str
    anchor: str
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
    """
    terms = [_terms(price) for price in prices]
    _check_listed_once(terms)
    is_new = plan.lay(session, plan_key, name=name, interval=interval, anchor=anchor, now=as_of)
    plan.set_prices(session, plan_key, terms, is_new=is_new, now=as_of)
    if credits is not None:
        plan_credits.change(session, plan_key, credits, is_new=is_new, now=as_of)
    laid = plan.get(session, plan_key)
    return {
        "plan_key": laid.plan_key,
        "name": laid.name,
        "interval": laid.interval,
        "anchor": laid.anchor,
        "version": laid.version,
        "prices": [_answer(price) for price in plan.current_prices(session, plan_key)],
        "credits": plan_credits.current(session, plan_key),
    }


def _terms(price: PriceTerms) -> plan.Terms:
    usage = price.kind is PriceKind.usage
    if usage != (price.metric is not None):
        raise InvalidTerms(
            f"price {price.price_key!r} is of kind {price.kind.value} and its metric is "
            f"{price.metric!r}; a usage price needs a metric and a fixed one has none",
            field="prices",
        )
    model = price.model or (Model.per_unit if usage else Model.fixed)
    if usage and model is Model.fixed:
        raise InvalidTerms(
            f"price {price.price_key!r} charges for usage of {price.metric!r} by the model "
            "'fixed'; usage needs 'per_unit', and a fee is of kind 'fixed'",
            field="prices",
        )
    _check_timing(price)
    return plan.Terms(
        price_key=price.price_key,
        currency=price.currency,
        kind=price.kind,
        metric=price.metric,
        model=model,
        unit_amount=price.unit_amount,
        timing=price.timing,
        description=price.description,
    )


def _check_timing(price: PriceTerms) -> None:
    if price.timing is Timing.advance:
        raise AdvanceNotSupported(
            f"price {price.price_key!r} has timing 'advance', which can not be charged yet; use "
            "'arrears': the fee is on the invoice made when its period is over",
            field="prices",
        )


def _check_listed_once(terms: list[plan.Terms]) -> None:
    counts = Counter((one.price_key, one.currency) for one in terms)
    for (price_key, currency), count in counts.items():
        if count > 1:
            raise InvalidTerms(
                f"price {price_key!r} in {currency} is listed {count} times; list it once, or give "
                "the others keys of their own",
                field="prices",
            )


def _answer(price: Price) -> PriceAnswer:
    return {
        "price_key": price.price_key,
        "kind": price.kind,
        "metric": price.metric,
        "model": price.model,
        "unit_amount": plain(price.unit_amount or Decimal(0)),
        "currency": price.currency,
        "timing": price.timing,
        "description": price.description,
    }
